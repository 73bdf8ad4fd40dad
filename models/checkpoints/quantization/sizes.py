"""What a model's weights take in memory, by arithmetic."""

import math
from collections.abc import Mapping

import torch

from models.checkpoints.quantization.rounding import layer_of
from models.checkpoints.quantization.stored import is_quantizable
from models.jobs import Quantization


def weight_bytes(
    shapes: Mapping[str, tuple[int, ...]], dtype: torch.dtype, quantization: Quantization = "off", prefix: str = ""
) -> int:
    """Bytes of the parameters whose name begins with `prefix`.

    Args:
        shapes: by our names.
        dtype: of all that is not quantized.
    """
    total = 0
    for ours, shape in shapes.items():
        if not ours.startswith(prefix):
            continue
        if quantization != "off" and is_quantizable(ours):
            parts = layer_of(quantization, shape[1]).part_shapes(*shape)
            total += sum(math.prod(part) * part_dtype.itemsize for part, part_dtype in parts)
        else:
            total += math.prod(shape) * dtype.itemsize
    return total
