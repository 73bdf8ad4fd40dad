"""Layers in host memory or on disk, each copied to the device while the one before it computes.

The device holds two buffers that layers are copied into in turn, and beyond them as many layers as it is given room
for. A thread of its own copies: from page-locked memory over a stream of its own on a GPU, on a processor out of the
mapped file.
"""

import logging
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import torch
from torch import Tensor, nn

from models.engines.offload.host_layers import HostLayers, can_pin, pieces, pinned_copies
from models.engines.offload.layer_buffer import LayerBuffer, LayerLayout
from models.engines.offload.transient_layers import TransientLayers

logger = logging.getLogger(__name__)

NUM_BUFFERS = 2


class Copier(Protocol):
    """Brings layers into buffers, in the background."""

    def start(self, layer: int, buffer: LayerBuffer) -> Future[None]:
        """Begins; what has been asked of the buffer's former layer up to now comes first."""

    def make_current(self, buffer: LayerBuffer) -> None:
        """What is asked of the device from now on sees what was copied."""

    def settle(self) -> None:
        """Waits until nothing is on its way any more."""


class StreamedLayers(TransientLayers):
    """Streams any list of equal layers.

    Args:
        layers: off the device; they stay registered, so that parameters are counted as they are stored.
        dtype: of the copies on the device.
        device_bytes: for layers on the device; 0: two of them, the least.

    Raises:
        ValueError: fewer bytes than two layers take.
    """

    def __init__(self, layers: nn.ModuleList, device: torch.device, dtype: torch.dtype, device_bytes: int = 0) -> None:
        super().__init__()
        self.layers = layers
        self._layout = LayerLayout(layers[0], dtype)
        self._host = HostLayers(layers)
        self._copier = _copier(self._host, self._layout, device)
        self._residents = self._make_residents(device, device_bytes)
        self._streamed = [layer for layer in range(len(layers)) if layer not in self._residents]
        self._layer_buffers = [LayerBuffer(layers[0], self._layout, device) for _ in self._streamed[:NUM_BUFFERS]]
        self._copies: dict[int, Future[None]] = {}  # by layer

    @property
    def layer_bytes(self) -> int:
        """Of one layer on the device."""
        return self._layout.num_bytes

    @property
    def device_bytes(self) -> int:
        """Of all layers that are on the device now."""
        return sum(buffer.num_bytes for buffer in [*self._layer_buffers, *self._residents.values()])

    @property
    def num_resident(self) -> int:
        """Layers that never leave the device."""
        return len(self._residents)

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, layer: int) -> nn.Module:
        wanted = self._upcoming(layer)
        for each in wanted:
            if not any(buffer.held == each for buffer in self._layer_buffers):
                self._begin_copy(each, next(buffer for buffer in self._layer_buffers if buffer.held not in wanted))
        if layer in self._residents:
            return self._residents[layer].module
        buffer = next(buffer for buffer in self._layer_buffers if buffer.held == layer)
        try:
            self._copies[layer].result()
        except BaseException:
            self._forget(buffer)  # it is copied again when it is asked for again
            raise
        self._copier.make_current(buffer)
        _number(buffer.module, layer)
        return buffer.module

    def rest(self) -> None:
        self._copier.settle()
        for buffer in self._layer_buffers:
            self._forget(buffer)
            buffer.free()

    def _begin_copy(self, layer: int, buffer: LayerBuffer) -> None:
        self._forget(buffer)
        self._copies[layer] = self._copier.start(layer, buffer)
        buffer.held = layer

    def _forget(self, buffer: LayerBuffer) -> None:
        if buffer.held is not None:
            self._copies.pop(buffer.held)
        buffer.held = None

    def _upcoming(self, layer: int) -> list[int]:
        """What belongs into the buffers while `layer` computes: itself and those after it, round and round."""
        rotated = [each for each in self._streamed if each >= layer] + [each for each in self._streamed if each < layer]
        return rotated[: len(self._layer_buffers)]

    def _make_residents(self, device: torch.device, device_bytes: int) -> dict[int, LayerBuffer]:
        """As many layers as there is room for beside the buffers, evenly spread: others are copied meanwhile."""
        num_layers, layer_bytes = len(self.layers), self._layout.weights_bytes
        num_fitting = device_bytes // layer_bytes if device_bytes else NUM_BUFFERS
        if num_fitting < min(NUM_BUFFERS, num_layers):
            raise ValueError(
                f"{device_bytes} bytes for layers on the device; the least is two of them, {NUM_BUFFERS * layer_bytes}"
            )
        if device_bytes and num_fitting >= num_layers:
            numbers = list(range(num_layers))
        else:
            count = max(num_fitting - NUM_BUFFERS, 0)
            numbers = [number * num_layers // count for number in range(count)]
        residents = {layer: LayerBuffer(self.layers[0], self._layout, device) for layer in numbers}
        for layer, buffer in residents.items():
            self._copier.start(layer, buffer).result()
            self._copier.make_current(buffer)
            _number(buffer.module, layer)
        return residents


class _HostCopier:
    """Copies within the host's memory."""

    def __init__(self, host: HostLayers) -> None:
        self._host = host
        self._thread = ThreadPoolExecutor(1, "layers", initializer=torch.set_num_threads, initargs=(1,))

    def start(self, layer: int, buffer: LayerBuffer) -> Future[None]:
        buffer.take_memory()
        return self._thread.submit(self._copy, layer, buffer)

    def make_current(self, buffer: LayerBuffer) -> None:
        pass  # what is done is seen

    def settle(self) -> None:
        self._thread.submit(lambda: None).result()

    @torch.inference_mode()
    def _copy(self, layer: int, buffer: LayerBuffer) -> None:
        buffer.fill(self._host.parameters(layer))
        self._host.release(layer)


class _GPUCopier:
    """Copies over a stream of its own, out of page-locked memory that holds all layers, or one read from its file."""

    def __init__(self, host: HostLayers, layout: LayerLayout, device: torch.device) -> None:
        self._host = host
        self._layout = layout
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._arrived: dict[int, torch.cuda.Event] = {}  # by buffer
        self._thread = ThreadPoolExecutor(1, "layers")
        self._pinned: list[list[Tensor]] | None = None
        if can_pin(len(host) * layout.num_bytes):
            self._pinned = pinned_copies(host, layout)
        else:
            self._staging = torch.empty(layout.num_values, dtype=layout.dtype, pin_memory=True)
        logger.info("layers wait in %s", "page-locked memory" if self._pinned else "the checkpoint's file")

    def start(self, layer: int, buffer: LayerBuffer) -> Future[None]:
        flat = buffer.take_memory()
        is_free = torch.cuda.current_stream(self._device).record_event()
        return self._thread.submit(self._copy, layer, flat, id(buffer), is_free)

    def make_current(self, buffer: LayerBuffer) -> None:
        torch.cuda.current_stream(self._device).wait_event(self._arrived[id(buffer)])

    def settle(self) -> None:
        self._thread.submit(self._stream.synchronize).result()

    @torch.inference_mode()
    def _copy(self, layer: int, flat: Tensor, key: int, is_free: torch.cuda.Event) -> None:
        with torch.cuda.stream(self._stream):
            source = pieces(self._staging_of(layer)) if self._pinned is None else self._pinned[layer]
            self._stream.wait_event(is_free)
            for target, piece in zip(pieces(flat), source, strict=True):
                target.copy_(piece, non_blocking=True)
            self._arrived[key] = self._stream.record_event()

    def _staging_of(self, layer: int) -> Tensor:
        """The layer out of its file, once the copy before it has left."""
        self._stream.synchronize()
        for view, parameter in zip(self._layout.views(self._staging), self._host.parameters(layer), strict=True):
            view.copy_(parameter)
        self._host.release(layer)
        return self._staging


def _copier(host: HostLayers, layout: LayerLayout, device: torch.device) -> Copier:
    return _GPUCopier(host, layout, device) if device.type == "cuda" else _HostCopier(host)


def _number(module: nn.Module, layer: int) -> None:
    """CPM-Bee's blocks know their place in a cache."""
    if hasattr(module, "index"):
        module.index = layer  # type: ignore[assignment]
