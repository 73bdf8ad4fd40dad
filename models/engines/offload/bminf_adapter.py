"""BMInf (package `bminf`, extra `bminf`) as what keeps the layers off the device, as the release used it.

The release wraps the language model with a limit of memory. BMInf then keeps as many layers as fit on the GPU and
passes the others through two buffers from page-locked memory. Its int8 kernels come into play with quantization alone.
"""

import importlib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

import torch
from torch import nn

from models.engines.offload.transient_layers import TransientLayers

# Of cpm_kernels 1.0.11: it has code for these alone, and none that a driver could compile for newer ones (PARTS §4).
KERNEL_GENERATIONS = (6, 7, 8)
_INSTALL = "pip install 'viscpm-service[bminf]'"


class OffloadUnusable(RuntimeError):
    """The message is one line."""


class BMInfLayers(TransientLayers):
    """Layers that BMInf schedules. It does that for whole passes: a layer is there within an iteration alone.

    Args:
        layers: on the CPU; they become BMInf's.
        limit_bytes: of the GPU for layers; 0: nine tenths of what is free.

    Raises:
        OffloadUnusable: it cannot run here.
    """

    def __init__(
        self,
        layers: nn.ModuleList,
        device: torch.device,
        dtype: torch.dtype,
        limit_bytes: int = 0,
        quantization: str = "off",
    ) -> None:
        super().__init__()
        if problem := why_not(device, dtype, layers, quantization):
            raise OffloadUnusable(f"VISCPM_OFFLOAD=bminf: {problem}")
        bminf = importlib.import_module("bminf")
        holder = nn.Module()
        holder.layers = layers.to(dtype)
        with torch.cuda.device(device):
            wrapped = bminf.wrapper(holder, quantization=quantization == "int8", memory_limit=limit_bytes or None)
        self.layers = wrapped.layers
        self._current: tuple[int, nn.Module] | None = None

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[nn.Module]:
        try:
            for layer, module in enumerate(self.layers):
                self._current = layer, module
                yield module
        finally:
            self._current = None

    def __getitem__(self, layer: int) -> nn.Module:
        if self._current is None or self._current[0] != layer:
            raise LookupError(f"layer {layer} of BMInf's is used outside of the pass that brings it")
        return self._current[1]


def why_not(device: torch.device, dtype: torch.dtype, layers: nn.ModuleList, quantization: str = "off") -> str | None:
    """Why BMInf cannot run these layers here, in one line; None: it can."""
    if quantization not in ("off", "int8"):
        return f"it has no {quantization}; VISCPM_*_QUANTIZATION=off or int8 is allowed with it"
    return _package_problem() or _device_problem(device) or _layers_problem(device, dtype, layers, quantization)


def _package_problem() -> str | None:
    try:
        found = version("bminf")
    except PackageNotFoundError:
        return f"the package bminf is not installed; {_INSTALL}"
    try:  # its import asks the CUDA runtime for devices, and needs pkg_resources, which newer setuptools lack
        importlib.import_module("bminf")
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        return f"the package bminf {found} does not load: {type(error).__name__}: {reason}"
    return None


def _device_problem(device: torch.device) -> str | None:
    if device.type != "cuda":
        return f"it needs a CUDA device, got {device}; VISCPM_OFFLOAD=streamed works on both"
    return None


def _layers_problem(device: torch.device, dtype: torch.dtype, layers: nn.ModuleList, quantization: str) -> str | None:
    """Its kernels' limits, which count with int8 alone: without it BMInf only copies."""
    if quantization == "off":
        return None
    capability = torch.cuda.get_device_capability(device)
    if capability[0] not in KERNEL_GENERATIONS:
        return f"its int8 kernels have no code for compute capability {capability[0]}.{capability[1]}, only for 6 to 8"
    return int8_problem(dtype, layers)


def int8_problem(dtype: torch.dtype, layers: nn.ModuleList) -> str | None:
    """Why BMInf's int8 products give no right numbers for such layers, in one line."""
    if dtype not in (torch.float16, torch.float32):
        name = str(dtype).removeprefix("torch.")
        return f"its int8 kernels compute float16 and float32, and take {name} for something else"
    odd = [
        size for module in layers.modules() if isinstance(module, nn.Linear) for size in module.weight.shape if size % 4
    ]
    return f"its int8 products need sizes that are multiples of 4, got {odd[0]}" if odd else None
