"""Layers that are on the device one after another."""

from abc import ABC, abstractmethod
from collections.abc import Iterator

from torch import nn


class TransientLayers(nn.Module, ABC):
    """In the place of a model's list of layers: a layer may be used until the next one is asked for.

    So all rows of all requests have to use a layer while it is there: one pass through the layers serves them all.
    """

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, layer: int) -> nn.Module:
        """The layer on the device, ready for the kernels that are launched next."""

    def __iter__(self) -> Iterator[nn.Module]:
        """One pass."""
        for layer in range(len(self)):
            yield self[layer]

    def rest(self) -> None:
        """Gives the device's memory back until a layer is asked for again, as far as that can be done."""
