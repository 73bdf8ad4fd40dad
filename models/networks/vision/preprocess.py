"""From the bytes of a resized picture to the tower's input."""

import torch
from torch import Tensor


def normalise(pixels: Tensor) -> Tensor:
    """Bytes to -1..1, channels first (SPEC §5).

    Args:
        pixels: (B, S, S, 3) uint8, RGB, already resized to the model's side with PIL bicubic.

    Returns:
        (B, 3, S, S) float32 on the device of `pixels`.
    """
    scaled = pixels.permute(0, 3, 1, 2).to(torch.float32) / 255
    return (scaled - 0.5) / 0.5
