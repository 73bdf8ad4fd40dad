"""The kernels in Triton's interpreter against attention request by request, over random steps."""

import pytest
import torch

from models.engines.chat.paged import attention
from models.engines.chat.paged.self_check import MadeUpStep

CPU = torch.device("cpu")
HEADS = ((2, 16), (1, 64), (3, 40), (1, 128))  # and their widths


def _compare(step: MadeUpStep, tolerance: float) -> None:
    expected = step.grouped()()
    written = step.pool.keys[0].clone(), step.pool.values[0].clone()
    step.pool.keys[0][step.places] = step.pool.values[0][step.places] = 0
    torch.testing.assert_close(step.paged()(), expected, rtol=0, atol=tolerance)
    assert torch.equal(step.pool.keys[0], written[0]) and torch.equal(step.pool.values[0], written[1])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_a_random_step_in_float32(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    heads, width = HEADS[seed % 4]
    monkeypatch.setattr(attention, "PROGRAMS", heads * (1, 24, 48)[seed % 3])  # keys in one part, or in several
    _compare(MadeUpStep.draw(heads, width, torch.float32, CPU, seed), tolerance=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_random_step_in_float16(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    monkeypatch.setattr(attention, "PROGRAMS", 2 * (1, 24, 48)[seed])
    _compare(MadeUpStep.draw(2, (32, 64)[seed % 2], torch.float16, CPU, seed), tolerance=4e-3)


@pytest.mark.slow
def test_more_beams_than_a_tile_has_at_least(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "PROGRAMS", 1)
    sizes = [(2, 5, 3), (19, 20, 4)]
    _compare(MadeUpStep.draw(1, 16, torch.float32, CPU, seed=0, sizes=sizes), tolerance=1e-5)
