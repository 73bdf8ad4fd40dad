"""The paint engine: what does not fit, is not finite or breaks ends its own job alone, and leaves nothing behind."""

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from models.engines.paint import painter as painter_module
from models.engines.paint.batch import DenoisingBatch
from models.engines.paint.engine import PaintEngine
from models.engines.paint.prompt import pack_job
from models.engines.paint.sampling import Sampling
from models.jobs import Failed
from tests.models.engines.paint.jobs import assert_nearly_equal, finish, job, paint, pixels, result_of


class ShortOfMemory:
    """A UNet that refuses more than `most_rows` rows of latents at least `least_side` high."""

    def __init__(
        self, engine: PaintEngine, monkeypatch: pytest.MonkeyPatch, most_rows: int, least_side: int = 0
    ) -> None:
        self.forward = engine.painter.model.unet.forward
        self.most_rows = most_rows
        self.least_side = least_side
        monkeypatch.setattr(engine.painter.model.unet, "forward", self)

    def __call__(self, rows: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if len(rows) > self.most_rows and rows.shape[-2] >= self.least_side:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return self.forward(rows, *args, **kwargs)


@pytest.fixture
def samplings(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[weakref.ref[Sampling]]]:
    """Every sampling that takes a step. Cycles are not collected meanwhile: device memory cannot wait for that."""
    begun: list[weakref.ref[Sampling]] = []
    draw = Sampling.draw
    monkeypatch.setattr(Sampling, "draw", lambda self: (begun.append(weakref.ref(self)), draw(self))[1])
    gc.disable()
    yield begun
    gc.enable()


@pytest.mark.slow
def test_a_cancelled_job_gives_its_latents_back(engine: PaintEngine, samplings: list[weakref.ref[Sampling]]) -> None:
    engine.admit(job())
    engine.step()
    assert samplings[0]() is not None
    engine.cancel("job")
    assert samplings[0]() is None


@pytest.mark.slow
def test_a_job_out_of_memory_gives_its_latents_back(
    engine: PaintEngine, samplings: list[weakref.ref[Sampling]], monkeypatch: pytest.MonkeyPatch
) -> None:
    ShortOfMemory(engine, monkeypatch, most_rows=0)
    (failure,) = paint(engine)
    assert isinstance(failure, Failed) and failure.code == "out_of_memory"
    assert len(samplings) == 1 and samplings[0]() is None


@pytest.mark.slow
def test_one_of_two_jobs_of_a_size_that_does_not_fit_fails_alone(
    engine: PaintEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of one size take the same memory but for their texts: here the longer one is too much."""
    expected = result_of(paint(engine, seed=9))
    forward = engine.painter.model.unet.forward
    short = paint_texts(engine, "a red house")

    def tight(rows: torch.Tensor, times: torch.Tensor, texts: torch.Tensor, **kwargs: Any) -> Any:
        lengths = kwargs.get("encoder_attention_mask", torch.ones(texts.shape[:2])).sum(1)
        if len(rows) > 1 or lengths.max() > short:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return forward(rows, times, texts, **kwargs)

    monkeypatch.setattr(engine.painter.model.unet, "forward", tight)
    engine.admit(job("long", prompt="a red house that has a very long name beside it"))
    engine.admit(job("job", seed=9))
    events = finish(engine)
    (failure,) = events["long"]
    assert isinstance(failure, Failed) and failure.code == "out_of_memory"
    assert_nearly_equal(result_of(events["job"]).candidates[0].png, expected.candidates[0].png)


def paint_texts(engine: PaintEngine, prompt: str) -> int:
    """The length of a job's texts."""
    return pack_job(job(prompt=prompt), engine.tokenizer).ids.shape[1]


@pytest.mark.slow
def test_candidates_that_do_not_fit_together_are_painted_in_groups(
    engine: PaintEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = result_of(paint(engine, candidates=4))
    ShortOfMemory(engine, monkeypatch, most_rows=2)
    result = result_of(paint(engine, candidates=4))
    assert [c.seed for c in result.candidates] == [c.seed for c in expected.candidates]
    for got, want in zip(result.candidates, expected.candidates, strict=True):
        assert np.abs(pixels(got.png) - pixels(want.png)).max() <= 1


@pytest.mark.slow
def test_a_job_that_never_fits_fails_alone(engine: PaintEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = result_of(paint(engine, seed=9))
    ShortOfMemory(engine, monkeypatch, most_rows=0, least_side=16)
    engine.admit(job("big", height_px=128))
    engine.admit(job("job", seed=9))
    events = finish(engine)
    (failure,) = events["big"]
    assert isinstance(failure, Failed) and failure.code == "out_of_memory" and "smaller size" in failure.message
    assert_nearly_equal(result_of(events["job"]).candidates[0].png, expected.candidates[0].png)


@pytest.mark.slow
def test_out_of_memory_while_decoding_fails_the_job(engine: PaintEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    with monkeypatch.context() as patch:
        patch.setattr(engine.painter.vae, "decode", decode)
        events = paint(engine)
    assert isinstance(events[-1], Failed) and events[-1].code == "out_of_memory"
    assert len(result_of(paint(engine)).candidates) == 1


@pytest.mark.slow
def test_latents_that_are_not_finite_give_an_error_and_no_picture(
    engine: PaintEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = engine.painter.model.unet.forward
    with monkeypatch.context() as patch:
        patch.setattr(engine.painter.model.unet, "forward", lambda *a, **k: (forward(*a, **k)[0] * float("inf"),))
        events = paint(engine, candidates=2)
    (failure,) = events
    assert isinstance(failure, Failed) and failure.code == "generation_failed"
    assert "not finite after step 1 of 4" in failure.message
    assert len(result_of(paint(engine)).candidates) == 1


def test_hidden_states_that_are_not_finite_give_an_error(engine: PaintEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = engine.painter.model.prompt_adapter
    forward = adapter.forward
    with monkeypatch.context() as patch:
        patch.setattr(adapter, "forward", lambda hidden: forward(hidden) * float("nan"))
        (failure,) = paint(engine, prompt="a prompt that is not known yet")
    assert isinstance(failure, Failed) and failure.code == "generation_failed"


def test_a_black_picture_is_never_a_result(engine: PaintEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(latents: torch.Tensor, return_dict: bool) -> tuple[torch.Tensor]:
        return (torch.full((len(latents), 3, 64, 64), -3.0),)

    with monkeypatch.context() as patch:
        patch.setattr(engine.painter.vae, "decode", decode)
        events = paint(engine)
    assert isinstance(events[-1], Failed) and events[-1].code == "generation_failed"
    assert "single colour, RGB (0, 0, 0)" in events[-1].message


@pytest.mark.slow
def test_an_unforeseen_error_ends_one_job(
    engine: PaintEngine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(painter_module, "step_table", lambda *args: None)
        (failure,) = paint(engine)
    assert isinstance(failure, Failed) and failure.code == "job_failed"
    assert "paint job job met an error of the engine" in caplog.text
    assert len(result_of(paint(engine)).candidates) == 1


def test_a_broken_device_ends_the_process_instead_of_one_job(
    engine: PaintEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forward(*args: Any, **kwargs: Any) -> None:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(engine.painter.model.unet, "forward", forward)
    engine.admit(job())
    with pytest.raises(torch.AcceleratorError):
        engine.step()


def out_of_memory() -> torch.OutOfMemoryError:
    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@pytest.mark.slow
def test_memory_short_beside_the_unet_splits_the_jobs_and_changes_no_picture(
    engine: PaintEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Noise is drawn before, so that a step which is tried again has the same."""
    seeds = (1, 2, 3)
    expected = {f"job{seed}": result_of(paint(engine, seed=seed)) for seed in seeds}
    step_group = DenoisingBatch._step_group
    sizes: list[int] = []

    def tight(batch: DenoisingBatch, samplings: list[Sampling], group: Any) -> Any:
        sizes.append(len(samplings))
        for sampling in samplings:
            sampling.draw()
        if len(samplings) > 1:
            raise out_of_memory()
        return step_group(batch, samplings, group)

    monkeypatch.setattr(DenoisingBatch, "_step_group", tight)
    for seed in seeds:
        engine.admit(job(f"job{seed}", seed=seed))
    events = finish(engine)
    assert max(sizes) > 1
    for job_id, result in expected.items():
        assert_nearly_equal(result_of(events[job_id]).candidates[0].png, result.candidates[0].png)


@pytest.mark.slow
def test_memory_short_beside_the_unet_even_for_one_fails_it_alone(
    engine: PaintEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = result_of(paint(engine, seed=9))
    step_group = DenoisingBatch._step_group

    def tight(batch: DenoisingBatch, samplings: list[Sampling], group: Any) -> Any:
        if any(sampling.num_candidates == 2 for sampling in samplings):
            raise out_of_memory()
        return step_group(batch, samplings, group)

    monkeypatch.setattr(DenoisingBatch, "_step_group", tight)
    engine.admit(job("big", candidates=2))
    engine.admit(job("job", seed=9))
    events = finish(engine)
    (failure,) = events["big"]
    assert isinstance(failure, Failed) and failure.code == "out_of_memory"
    assert_nearly_equal(result_of(events["job"]).candidates[0].png, expected.candidates[0].png)


@pytest.mark.slow
def test_texts_that_do_not_fit_together_are_read_one_by_one(
    engine: PaintEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = {"prompt": "a green house", "negative_prompt": "fog"}
    expected = result_of(paint(engine, **fields))
    forward, rows = engine.painter.model.llm.forward, []

    def tight(batch: Any, *args: Any) -> Any:
        rows.append(len(batch.ids))
        if rows[-1] > 1:
            raise out_of_memory()
        return forward(batch, *args)

    monkeypatch.setattr(engine.painter.model.llm, "forward", tight)
    engine.painter.texts._known.clear()
    engine.painter.texts.num_bytes = 0
    result = result_of(paint(engine, **fields))
    assert rows == [2, 1, 1]
    assert_nearly_equal(result.candidates[0].png, expected.candidates[0].png)


@pytest.mark.slow
def test_texts_that_never_fit_fail_their_job_alone(engine: PaintEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    result_of(paint(engine, seed=9))  # whose texts are known from here on

    def tight(*args: Any) -> None:
        raise out_of_memory()

    monkeypatch.setattr(engine.painter.model.llm, "forward", tight)
    engine.admit(job("new", prompt="an unseen prompt"))
    engine.admit(job("job", seed=9))
    events = finish(engine)
    (failure,) = events["new"]
    assert isinstance(failure, Failed) and failure.code == "out_of_memory"
    assert len(result_of(events["job"]).candidates) == 1


@pytest.mark.slow
def test_pictures_that_cannot_be_judged_together_are_judged_in_halves(
    engine: PaintEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = {"prompt": "红色的猫", "candidates": 3, "rerank": "on"}
    expected = result_of(paint(engine, **fields))
    reranker = engine.painter.rerankers["zh"]
    forward, sizes = reranker.model.forward, []

    def tight(**inputs: Any) -> Any:
        sizes.append(len(inputs["pixel_values"]))
        if sizes[-1] > 1:
            raise out_of_memory()
        return forward(**inputs)

    monkeypatch.setattr(reranker.model, "forward", tight)
    result = result_of(paint(engine, **fields))
    assert sizes == [3, 1, 2, 1, 1]
    for got, want in zip(result.candidates, expected.candidates, strict=True):
        assert got.seed == want.seed and got.score == pytest.approx(want.score, abs=1e-4)
