"""Normalisation: the value of every byte, and the order of the axes."""

import torch

from models.networks.vision.preprocess import normalise


def test_every_byte_becomes_minus_one_to_one() -> None:
    every_byte = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).expand(-1, -1, -1, 3)
    values = normalise(every_byte)[0, 0].flatten()
    expected = torch.tensor([(byte / 255 - 0.5) / 0.5 for byte in range(256)])
    assert values.dtype == torch.float32
    assert (values[0], values[255]) == (-1, 1)
    assert torch.allclose(values, expected, atol=1e-7, rtol=0)


def test_channels_come_first_and_rows_stay_rows() -> None:
    pixels = torch.zeros(2, 4, 4, 3, dtype=torch.uint8)
    pixels[1, 2, 3, 0] = 255  # second picture, third row, fourth column, red
    values = normalise(pixels)
    assert values.shape == (2, 3, 4, 4)
    assert (values == 1).nonzero().tolist() == [[1, 0, 2, 3]]
