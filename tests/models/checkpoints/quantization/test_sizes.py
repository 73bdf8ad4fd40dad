"""How much of the published model's memory quantization leaves, by arithmetic."""

import pytest
import torch

from models.checkpoints.config_from_shapes import PUBLISHED_LLM
from models.checkpoints.quantization.sizes import weight_bytes
from models.jobs import Quantization
from models.networks.cpm_bee.model import CPMBee

LINEAR_WEIGHTS = 48 * (4 * 4096**2 + 3 * 4096 * 10240)
OUTPUTS = 48 * (5 * 4096 + 2 * 10240)
EMBEDDING_WEIGHTS = 86583 * 4096


@pytest.fixture(scope="module")
def shapes() -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        llm = CPMBee(PUBLISHED_LLM)
    return {f"llm.{name}": tuple(tensor.shape) for name, tensor in llm.state_dict().items()} | {"other": (5,)}


def test_the_published_sizes_are_counted(shapes: dict[str, tuple[int, ...]]) -> None:
    others = weight_bytes(shapes, torch.float16, prefix="llm.") - 2 * (LINEAR_WEIGHTS + EMBEDDING_WEIGHTS)
    assert 0 < others < 2e6  # norms and position bias
    assert weight_bytes(shapes, torch.float16) - weight_bytes(shapes, torch.float16, prefix="llm.") == 10
    int8 = weight_bytes(shapes, torch.float16, "int8", "llm.")
    assert int8 == LINEAR_WEIGHTS + 4 * OUTPUTS + 2 * EMBEDDING_WEIGHTS + others
    assert (
        weight_bytes(shapes, torch.float16, "int4", "llm.") == LINEAR_WEIGHTS * 9 // 16 + 2 * EMBEDDING_WEIGHTS + others
    )


@pytest.mark.parametrize(("quantization", "most"), [("int8", 0.55), ("int4", 0.32)])
def test_the_language_model_keeps_to_its_share_of_bfloat16(
    shapes: dict[str, tuple[int, ...]], quantization: Quantization, most: float
) -> None:
    share = weight_bytes(shapes, torch.bfloat16, quantization, "llm.") / weight_bytes(
        shapes, torch.bfloat16, prefix="llm."
    )
    assert most - 0.04 < share <= most
