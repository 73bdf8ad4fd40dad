"""Layers where they wait: in the files that they are mapped from, or in the host's memory."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.checkpoints.tensor_files import mapped_ranges, release_pages
from models.engines.free_memory import free_bytes
from models.engines.offload.layer_buffer import LayerLayout

PINNED_SHARE = 0.8  # of the host's free memory that pinned layers may take
PIECE_BYTES = 2**25  # torch pins powers of two: larger pieces would waste up to as much again as a layer takes


class HostLayers:
    """The layers' parameters off the device. Nothing is written to them, so a file's pages are given back once read."""

    def __init__(self, layers: nn.ModuleList) -> None:
        self._parameters = [list(layer.parameters()) for layer in layers]
        self._ranges = mapped_ranges([parameter for layer in self._parameters for parameter in layer])

    def __len__(self) -> int:
        return len(self._parameters)

    @property
    def is_mapped(self) -> bool:
        """Whether some of them are in files, which take no memory of their own."""
        return bool(self._ranges)

    def parameters(self, layer: int) -> Sequence[Tensor]:
        return self._parameters[layer]

    def release(self, layer: int) -> None:
        """Lets the pages of a layer's files go."""
        for parameter in self._parameters[layer]:
            release_pages(parameter, self._ranges)


def can_pin(num_bytes: int) -> bool:
    """Whether the host has so many bytes for memory that a GPU copies from without the processor."""
    return num_bytes < PINNED_SHARE * free_bytes(torch.device("cpu"))


def pieces(flat: Tensor) -> Sequence[Tensor]:
    """A layer's flat tensor in parts, as page-locked memory holds it."""
    return flat.split(PIECE_BYTES // flat.dtype.itemsize)


def pinned_copies(layers: HostLayers, layout: LayerLayout) -> list[list[Tensor]]:
    """Each layer's pieces in page-locked memory: copied to a GPU at the full speed of its bus."""
    flat = torch.empty(layout.num_values, dtype=layout.dtype)
    copies = []
    for layer in range(len(layers)):
        for view, parameter in zip(layout.views(flat), layers.parameters(layer), strict=True):
            view.copy_(parameter)
        layers.release(layer)
        copies.append([piece.pin_memory() for piece in pieces(flat)])
    return copies
