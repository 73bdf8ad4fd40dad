"""The chat engine: unusable jobs, and failures that stay with their job."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from models.jobs import ChatGeneration, JobRejected, PaintJob
from models.networks.cpm_bee.model import CPMBee
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
    """Makes chosen decode steps run out of memory; steps are counted over all jobs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, is_short: Callable[[int], bool], error: Exception) -> None:
        self.steps = 0
        real = CPMBee.decode_step

        def decode_step(model: CPMBee, *arguments: Any) -> Any:
            self.steps += 1
            if is_short(self.steps):
                raise error
            return real(model, *arguments)

        monkeypatch.setattr(CPMBee, "decode_step", decode_step)


@pytest.fixture
def out_of_memory() -> Iterator[torch.OutOfMemoryError]:
    yield torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def test_out_of_memory_is_tried_again_alone(
    make_bench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, out_of_memory: Exception
) -> None:
    alone = {single.job_id: make_bench().run(single) for single in MIXED[:2]}
    bench = make_bench()
    Exhausted(monkeypatch, lambda step: step == 5, out_of_memory)  # the streaming job's third token
    bench.admit(*MIXED[:2])
    while not any(task.is_retry for task in bench.engine._tasks.values()):
        bench.step()
    assert len(bench.deltas("greedy")) == 2
    assert bench.engine.capacity == 0  # so that it gets its turn
    while "sampled" in bench.open:
        bench.step()
    assert len(bench.deltas("greedy")) == 2  # it waited
    bench.finish()
    for job_id, expected in alone.items():
        assert timeless(bench.result(job_id)) == timeless(expected)
    assert "".join(delta.text for delta in bench.deltas("greedy")) == alone["greedy"].answer
    assert bench.engine.capacity == 4


def test_out_of_memory_twice_fails_the_job_and_the_engine_goes_on(
    make_bench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, out_of_memory: Exception
) -> None:
    bench = make_bench()
    short = Exhausted(monkeypatch, lambda step: step <= 2, out_of_memory)
    bench.finish(job("big"))
    assert bench.failure("big").code == "out_of_memory"
    assert "1 beams of 20" in bench.failure("big").message
    assert short.steps == 2
    bench.finish(job("next"))
    assert bench.result("next").completion_tokens > 0


def test_an_unexpected_error_fails_its_job_alone(
    make_bench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = make_bench().run(MIXED[1])
    bench = make_bench()
    Exhausted(monkeypatch, lambda step: step == 3, KeyError("a slip"))
    bench.finish(MIXED[0], MIXED[1])
    assert bench.failure("greedy").code == "job_failed"
    assert "a slip" in caplog.text and "a slip" not in bench.failure("greedy").message
    assert timeless(bench.result("sampled")) == timeless(expected)


def test_a_lost_accelerator_is_nobodys_own_failure(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    Exhausted(monkeypatch, lambda step: True, torch.AcceleratorError("CUDA error: an illegal memory access"))
    bench.admit(job())
    bench.step()
    with pytest.raises(torch.AcceleratorError):
        bench.step()
