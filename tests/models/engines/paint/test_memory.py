"""What rows take is measured on tensors, and what is free is read from the machine and the control group."""

import pytest
import torch

from models.engines.free_memory import free_bytes
from models.engines.paint.engine import PaintEngine
from models.engines.paint.memory import HOST_SHARE, KERNELS_SHARE, peak_bytes, row_budget_bytes, row_bytes_per_latent
from models.engines.paint.prompt import pack_job
from tests.models.engines.paint.jobs import job

MEGABYTE = 1 << 20


def test_the_peak_counts_what_is_alive_at_once() -> None:
    def work() -> None:
        for _ in range(3):
            first = torch.zeros(MEGABYTE)  # 4 MB each
            second = first + 1
            second.view(2, -1).add_(1)  # no new memory
            del first, second

    assert peak_bytes(work) == 8 * MEGABYTE


@pytest.mark.slow
def test_rows_take_memory_by_their_number_and_size(engine: PaintEngine) -> None:
    def measured(**fields: int) -> float:
        painting = job(**fields)
        conditioning = engine.painter.encode(pack_job(painting, engine.tokenizer))
        return row_bytes_per_latent(engine.batch, engine.painter.begin(painting, conditioning))

    one, four, large = measured(), measured(candidates=4), measured(height_px=256, width_px=256)
    assert four == pytest.approx(one, rel=0.25)
    assert 0.4 * one < large <= one, "what does not grow with the size is shared by more places"
    channels = engine.painter.model.unet.config.block_out_channels[0]
    assert one > 4 * channels * KERNELS_SHARE, "at least one activation of the largest size is alive"
    assert engine.bytes_per_latent == pytest.approx(large, rel=0.1)


def test_rows_may_take_a_share_of_what_is_free() -> None:
    device = torch.device("cpu")
    assert row_budget_bytes(device) == pytest.approx(free_bytes(device) * HOST_SHARE, rel=0.5)
