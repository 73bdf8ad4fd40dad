"""How far a job is, and when it will be done: from what jobs of its kind took lately, and its own steps so far."""

from typing import NamedTuple

from models.jobs import Progress, VersionMismatch, decode_event
from service.queue.listing import JobPlace
from service.queue.record import JobRecord


class JobProgress(NamedTuple):
    """`position` is 1 for the job that is taken next, None for one that does not wait.

    `eta_s` is None where nothing was measured yet.
    """

    position: int | None = None
    step: int | None = None
    total_steps: int | None = None
    eta_s: float | None = None


def progress_of(record: JobRecord, place: JobPlace) -> JobProgress:
    """Of a job that has not ended."""
    if record.state == "queued":
        before = place.num_before
        if place.run_s is None or before is None:
            return JobProgress(None if before is None else before + 1)
        # As many as are in work now will be side by side
        wait_s = before / max(1, place.num_in_work) * place.run_s
        return JobProgress(before + 1, eta_s=round(wait_s + place.run_s, 1))
    if record.state != "running":
        return JobProgress()
    elapsed_s = max(0.0, (place.now_ms - record.started_ms) / 1000)
    step, total_steps = _steps(place.last_event)
    if step and total_steps:
        return JobProgress(None, step, total_steps, round(elapsed_s / step * (total_steps - step), 1))
    eta_s = None if place.run_s is None else round(max(0.0, place.run_s - elapsed_s), 1)
    return JobProgress(None, step, total_steps, eta_s)


def _steps(event: bytes) -> tuple[int | None, int | None]:
    try:
        decoded = decode_event(event) if event else None
    except VersionMismatch:  # of a worker of another version
        return None, None
    return (decoded.step, decoded.total_steps) if isinstance(decoded, Progress) else (None, None)
