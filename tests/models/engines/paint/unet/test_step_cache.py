"""Shallow steps: on a step's own deep features they are the full step, and each sampling counts its own."""

from typing import Any

import pytest
import torch

from models.checkpoints.bundled import bundled_checkpoint
from models.checkpoints.loading import load_paint
from models.engines.paint.batch import DenoisingBatch
from models.engines.paint.unet.preparation import prepare_unet
from models.engines.paint.unet.step_cache import StepCachingUNet
from tests.models.engines.paint.samplings import REQUEST, begin, make_unet


@pytest.mark.slow
@pytest.mark.parametrize("is_prepared", [False, True])
@pytest.mark.parametrize("is_masked", [False, True])
@torch.inference_mode()
def test_a_shallow_step_on_the_steps_own_features_is_the_full_step(is_prepared: bool, is_masked: bool) -> None:
    unet = load_paint(bundled_checkpoint("paint"), dtype=torch.float32).model.unet
    if is_prepared:
        prepare_unet(unet)
    caching = StepCachingUNet(unet)
    rows, texts = torch.randn(2, 16, 8, 8), torch.randn(2, 9, 128)
    times = torch.tensor([20.0, 700.0])
    mask = torch.tensor([[True] * 9, [True] * 6 + [False] * 3]) if is_masked else None
    expected, deep = caching.full(rows, times, texts, mask)
    got = caching.shallow(rows, times, texts, mask, deep)
    assert torch.allclose(got, expected, atol=1e-4)
    assert not torch.allclose(caching.shallow(rows, times, texts, mask, torch.zeros_like(deep)), expected, atol=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("full_every", [2, 3])
def test_one_step_in_so_many_is_full(monkeypatch: pytest.MonkeyPatch, full_every: int) -> None:
    kinds: list[str] = []
    for kind in ("full", "shallow"):
        monkeypatch.setattr(StepCachingUNet, kind, _noting(kinds, getattr(StepCachingUNet, kind), kind))
    batch = DenoisingBatch(make_unet(), full_every)
    sampling = begin(REQUEST | {"steps": 6})
    while not sampling.is_done:
        assert batch.step([sampling]) == {}
    assert kinds == [("full" if step % full_every == 0 else "shallow") for step in range(6)]


def _noting(kinds: list[str], function: Any, kind: str) -> Any:
    def call(*args: Any) -> Any:
        kinds.append(kind)
        return function(*args)

    return call


@pytest.mark.slow
def test_neighbours_at_other_steps_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    unet = make_unet()
    requests = [
        REQUEST | {"steps": 7},
        REQUEST | {"steps": 6, "seed": 4, "length": 7, "candidates": 1},
        REQUEST | {"steps": 5, "seed": 8, "sampler": "dpm++"},
    ]
    batch = DenoisingBatch(unet, 2)
    running, waiting = [], [begin(request) for request in requests]
    together = list(waiting)
    while running or waiting:
        if waiting:
            running.append(waiting.pop(0))
        assert batch.step(running) == {}
        running = [sampling for sampling in running if not sampling.is_done]
    for request, sampling in zip(requests, together, strict=True):
        alone, lone_batch = begin(request), DenoisingBatch(unet, 2)
        while not alone.is_done:
            lone_batch.step([alone])
        assert (sampling.latents - alone.latents).abs().max() <= 1e-4 * alone.latents.abs().max()


@pytest.mark.slow
def test_out_of_memory_splits_shallow_steps_too(monkeypatch: pytest.MonkeyPatch) -> None:
    unet = make_unet()
    expected, sampling = begin(REQUEST), begin(REQUEST)
    roomy, tight = DenoisingBatch(unet, 2), DenoisingBatch(unet, 2)
    while not expected.is_done:
        roomy.step([expected])

    rows_seen: list[int] = []
    forward = unet.conv_in.forward

    def short(rows: torch.Tensor) -> torch.Tensor:
        rows_seen.append(len(rows))
        if len(rows) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return forward(rows)

    monkeypatch.setattr(unet.conv_in, "forward", short)
    while not sampling.is_done:
        assert tight.step([sampling]) == {}
    assert rows_seen == [4, 2, 2, 4, 2, 2, 2, 2, 2, 2], "both kinds of step learn what fits"
    assert torch.allclose(sampling.latents, expected.latents, atol=1e-3)
