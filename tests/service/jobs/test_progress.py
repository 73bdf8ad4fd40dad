"""How far a job is: places, steps, and times from what was measured."""

import msgspec
import pytest

from models.jobs import Delta, Progress, encode
from service.jobs.progress import JobProgress, progress_of
from service.queue.listing import JobPlace
from service.queue.record import JobRecord

PLACE = JobPlace(num_before=None, num_in_work=2, run_s=10.0, now_ms=100_000)
QUEUED, RUNNING = JobRecord("paint", "queued"), JobRecord("paint", "running", started_ms=96_000)


@pytest.mark.parametrize(
    ("before", "in_work", "run_s", "expected"),
    [
        (0, 2, 10.0, JobProgress(1, eta_s=10.0)),
        (4, 2, 10.0, JobProgress(5, eta_s=30.0)),
        (4, 0, 10.0, JobProgress(5, eta_s=50.0)),  # nobody works: one after another is the best guess
        (4, 2, None, JobProgress(5)),
        (None, 2, 10.0, JobProgress()),  # over a thousand
    ],
)
def test_one_that_waits(before: int | None, in_work: int, run_s: float | None, expected: JobProgress) -> None:
    assert progress_of(QUEUED, PLACE._replace(num_before=before, num_in_work=in_work, run_s=run_s)) == expected


def test_one_that_paints_is_measured_by_its_own_steps() -> None:
    event = encode(Progress(step=10, total_steps=50, preview_png=b"x"))
    assert progress_of(RUNNING, PLACE._replace(last_event=event)) == JobProgress(None, 10, 50, 16.0)
    last = encode(Progress(step=50, total_steps=50))
    assert progress_of(RUNNING, PLACE._replace(last_event=last)) == JobProgress(None, 50, 50, 0.0)


def test_one_without_steps_is_measured_by_others() -> None:
    assert progress_of(RUNNING, PLACE) == JobProgress(eta_s=6.0)
    text = encode(Delta(token_ids=[1], text="x", offset_chars=0))
    assert progress_of(RUNNING, PLACE._replace(last_event=text, run_s=1.0)) == JobProgress(eta_s=0.0)
    assert progress_of(RUNNING, PLACE._replace(run_s=None)) == JobProgress()
    assert progress_of(RUNNING, PLACE._replace(last_event=b"\xff")) == JobProgress(eta_s=6.0), "another version's"


def test_a_result_that_is_judged_tells_nothing() -> None:
    assert progress_of(msgspec.structs.replace(RUNNING, state="generated"), PLACE) == JobProgress()
