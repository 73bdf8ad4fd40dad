"""A layer's place on a device: one stretch of memory that each layer in turn is copied into."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.engines.packed_linear import multiply_plainly

_ALIGNMENT_BYTES = 256  # of each parameter, as allocators align: kernels are fastest then


class LayerLayout:
    """Where a layer's parameters lie in a flat tensor of `dtype`, in the order of `parameters()`."""

    def __init__(self, layer: nn.Module, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.shapes = [parameter.shape for parameter in layer.parameters()]
        step = _ALIGNMENT_BYTES // dtype.itemsize
        self.weights_bytes = sum(shape.numel() for shape in self.shapes) * dtype.itemsize  # what they fill of it
        self.offsets: list[int] = []
        self.num_values = 0
        for shape in self.shapes:
            self.offsets.append(self.num_values)
            self.num_values += -(-shape.numel() // step) * step

    @property
    def num_bytes(self) -> int:
        return self.num_values * self.dtype.itemsize

    def views(self, flat: Tensor) -> list[Tensor]:
        """The parameters within a flat tensor of `num_values`."""
        return [
            flat[offset : offset + shape.numel()].view(shape)
            for offset, shape in zip(self.offsets, self.shapes, strict=True)
        ]


class LayerBuffer:
    """A module like the layers, whose parameters are views of memory that is taken at first use."""

    def __init__(self, like: nn.Module, layout: LayerLayout, device: torch.device) -> None:
        self.held: int | None = None  # number of the layer
        self.module = on_meta(like)
        multiply_plainly(self.module, device, layout.dtype)
        self._places = [
            (owner, leaf)
            for owner in self.module.modules()
            for leaf, parameter in owner._parameters.items()
            if parameter is not None
        ]
        self._layout = layout
        self._device = device
        self._flat: Tensor | None = None

    @property
    def num_bytes(self) -> int:
        """Of the device, now."""
        return 0 if self._flat is None else self._flat.nbytes

    def take_memory(self) -> Tensor:
        """All of it as one flat tensor."""
        if self._flat is None:
            self._flat = torch.empty(self._layout.num_values, dtype=self._layout.dtype, device=self._device)
            self._bind(self._layout.views(self._flat))
        return self._flat

    def fill(self, parameters: Sequence[Tensor]) -> None:
        """Copies a layer's parameters here, in whatever dtype they are kept."""
        for view, parameter in zip(self._layout.views(self.take_memory()), parameters, strict=True):
            view.copy_(parameter)

    def free(self) -> None:
        """Gives it back."""
        self._flat = None
        self._bind([torch.empty(shape, dtype=self._layout.dtype, device="meta") for shape in self._layout.shapes])

    def _bind(self, tensors: Sequence[Tensor]) -> None:
        for (owner, leaf), tensor in zip(self._places, tensors, strict=True):
            setattr(owner, leaf, nn.Parameter(tensor, requires_grad=False))


def on_meta(module: nn.Module) -> nn.Module:
    """The same module without memory for its parameters."""
    empty = {
        id(parameter): nn.Parameter(torch.empty_like(parameter, device="meta"), requires_grad=False)
        for parameter in module.parameters()
    }
    return copy.deepcopy(module, empty)  # which takes these in the parameters' places
