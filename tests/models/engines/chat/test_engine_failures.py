"""The chat engine: unusable jobs, and failures that stay with their job."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch

from models.engines.chat.batch import DecodingBatch, Sequences
from models.jobs import ChatGeneration, EngineLoad, Failed, JobRejected, PaintJob
from tests.models.engines.chat.jobs import EACH, MIXED, job, timeless


@pytest.mark.parametrize(
    ("fields", "code", "message"),
    [
        ({"raw_text": True, "question": "is a<b"}, "invalid_request", "never ends"),
        ({"generation": ChatGeneration(max_input_tokens=20)}, "context_length_exceeded", "at most 20"),
        ({"image_size_px": 16}, "invalid_request", "16 px"),
        ({"pixels": b"123"}, "invalid_request", "3 bytes"),
        ({"generation": ChatGeneration(max_new_tokens=0)}, "invalid_request", "max_new_tokens is 0"),
        ({"generation": ChatGeneration(num_beams=0)}, "invalid_request", "num_beams is 0"),
        ({"generation": ChatGeneration(temperature=0.0)}, "invalid_request", "temperature is 0.0"),
        ({"generation": ChatGeneration(top_p=1.5)}, "invalid_request", "top_p is 1.5"),
        ({"generation": ChatGeneration(repetition_penalty=math.nan)}, "invalid_request", "repetition_penalty is nan"),
        ({"generation": ChatGeneration(length_penalty=math.inf)}, "invalid_request", "length_penalty is inf"),
        ({"generation": ChatGeneration(repetition_window=0)}, "invalid_request", "repetition_window is 0"),
    ],
)
def test_unusable_jobs_are_rejected(bench: Any, fields: dict[str, Any], code: str, message: str) -> None:
    with pytest.raises(JobRejected, match=message) as raised:
        bench.engine.admit(job(**fields))
    assert raised.value.code == code
    assert bench.engine.capacity == 4


def test_paint_job_is_rejected(bench: Any) -> None:
    with pytest.raises(JobRejected, match="PaintJob"):
        bench.engine.admit(PaintJob(job_id="p", prompt="x"))


@pytest.mark.slow
@EACH
def test_nan_fails_its_job_alone(make_bench: Callable[..., Any], generation: ChatGeneration) -> None:
    """A state of NaN makes the logits NaN, through the whole model."""
    bench = make_bench()
    bad = torch.full((4, 32), math.nan).numpy().tobytes()
    bench.finish(job("bad", image_key="bad", image_embeddings=bad, generation=generation), job("good"))
    assert bench.failure("bad").code == "generation_failed"
    assert timeless(bench.result("good")) == timeless(make_bench().run(job("good")))
    assert bench.engine.capacity == 4


class Exhausted:
    """Makes chosen calls of the batch run out of memory; `is_short` is told the call's number and its rows."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, is_short: Callable[[int, list[int]], bool], error: Exception
    ) -> None:
        self.calls: list[list[int]] = []  # rows of each
        real = DecodingBatch.step

        def step(batch: DecodingBatch, requests: Sequence[Sequences], *arguments: Any) -> Any:
            self.calls.append([len(request.rows) for request in requests])
            if is_short(len(self.calls), self.calls[-1]):
                raise error
            return real(batch, requests, *arguments)

        monkeypatch.setattr(DecodingBatch, "step", step)


@pytest.fixture
def out_of_memory() -> Iterator[torch.OutOfMemoryError]:
    yield torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@pytest.mark.slow
def test_a_batch_that_is_too_large_is_split_and_stays_split(
    make_bench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, out_of_memory: Exception
) -> None:
    alone = {single.job_id: make_bench().run(single) for single in MIXED}
    bench = make_bench()
    short = Exhausted(monkeypatch, lambda call, rows: sum(rows) > 3, out_of_memory)
    bench.finish(*MIXED)
    for job_id, expected in alone.items():
        assert timeless(bench.result(job_id)) == timeless(expected)
    too_large = [rows for rows in short.calls if sum(rows) > 3]
    assert len(too_large) <= 2, "what fitted is remembered"
    assert any(len(rows) > 1 for rows in short.calls), "what fits together stays together"


@pytest.mark.slow
def test_out_of_memory_is_tried_again_alone(
    make_bench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, out_of_memory: Exception
) -> None:
    beams, other = MIXED[2], MIXED[0]
    alone = {single.job_id: make_bench().run(single) for single in (beams, other)}
    bench = make_bench()
    failures = iter([True, True])  # of the two, then of the beams by themselves

    def is_short(call: int, rows: list[int]) -> bool:
        return 3 in rows and call > 4 and next(failures, False)

    bench.admit(beams, other)
    Exhausted(monkeypatch, is_short, out_of_memory)
    while not any(request.is_alone for request in bench.engine._requests.values()):
        bench.step()
    assert bench.engine.capacity == 0  # so that it gets its turn
    assert [request.job.job_id for request in bench.engine._scheduler.waiting] == ["beams"]
    while other.job_id in bench.open:
        bench.step()
        assert [request.job.job_id for request in bench.engine._scheduler.waiting] == ["beams"], "it waits"
    bench.finish()
    for job_id, expected in alone.items():
        assert timeless(bench.result(job_id)) == timeless(expected)
    assert "".join(delta.text for delta in bench.deltas("greedy")) == alone["greedy"].answer
    assert bench.engine.capacity == 4


def test_out_of_memory_twice_fails_the_job_and_the_engine_goes_on(
    make_bench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, out_of_memory: Exception
) -> None:
    bench = make_bench()
    short = Exhausted(monkeypatch, lambda call, rows: call <= 2, out_of_memory)
    bench.finish(job("big"))
    assert bench.failure("big").code == "out_of_memory"
    assert "1 beams of 20" in bench.failure("big").message
    assert len(short.calls) == 2
    bench.finish(job("next"))
    assert bench.result("next").completion_tokens > 0


@pytest.mark.slow
def test_a_pool_that_one_answer_outgrows_fails_it_alone(make_bench: Callable[..., Any]) -> None:
    """Its beams share too little of their past for the slots that they were thought to need at least."""
    generation = ChatGeneration(max_new_tokens=60, num_beams=5, length_penalty=3.0, repetition_penalty=1.5)
    singles = [job(f"job{number}", question="a" * number, generation=generation) for number in range(6)]
    whole = {single.job_id: make_bench().run(single) for single in singles}
    bench = make_bench(max_jobs=8, num_blocks=8)
    bench.finish(*singles)
    endings = [bench.ending(single.job_id) for single in singles]
    for single, ending in zip(singles, endings, strict=True):
        if isinstance(ending, Failed):
            assert ending.code == "out_of_memory" and "ask for fewer new tokens" in ending.message
        else:
            assert timeless(bench.result(single.job_id)) == timeless(whole[single.job_id])
    assert bench.engine.load == EngineLoad(kv_blocks=8)


def test_what_can_never_fit_is_refused_with_what_it_needs(make_bench: Callable[..., Any]) -> None:
    bench = make_bench(num_blocks=4)
    with pytest.raises(JobRejected, match=r"\d+ tokens of talk .* take memory for \d+ tokens; .* has it for 64"):
        bench.engine.admit(job(generation=ChatGeneration(max_new_tokens=60)))
    assert bench.engine.load.waiting == 0


@pytest.mark.slow
def test_an_unexpected_error_fails_its_job_alone(
    make_bench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = make_bench().run(MIXED[1])
    bench = make_bench()
    Exhausted(monkeypatch, lambda call, rows: 3 in rows, KeyError("a slip"))
    bench.finish(MIXED[2], MIXED[1])
    assert bench.failure("beams").code == "job_failed"
    assert "a slip" in caplog.text and "a slip" not in bench.failure("beams").message
    assert timeless(bench.result("sampled")) == timeless(expected)
    assert bench.engine._rows_per_call is None, "it was no matter of memory"


def test_a_lost_accelerator_is_nobodys_own_failure(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    error = torch.AcceleratorError("CUDA error: an illegal memory access")
    Exhausted(monkeypatch, lambda call, rows: call == 2, error)
    bench.admit(job())
    bench.step()
    with pytest.raises(torch.AcceleratorError):
        bench.step()
