"""One engine's tensors, which leave the device and come back as they were.

What moves are storages: tensors and their views stay the objects that they are, only what they look at is away.
Weights do not change, so they are copied to the host once, and leaving is to free them; what is in progress is copied
both ways.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from models.engines.turns.placement import Placement

_ALIGNMENT_BYTES = 512


@dataclass(frozen=True)
class InUse:
    """A tensor of work in progress. `rows` (int64): of its first dimension those that hold something; None: all."""

    tensor: Tensor
    rows: Tensor | None = None


@dataclass
class _Opaque:
    """A weight in a processor's own layout, which has no storage: an attribute of a module."""

    owner: nn.Module
    name: str
    host: Tensor | None = None

    @property
    def nbytes(self) -> int:
        here = getattr(self.owner, self.name)
        return 0 if here is None else here.numel() * here.dtype.itemsize


@dataclass
class _Away:
    """What was in progress: a storage's size, and what to fill it with again."""

    in_use: InUse
    storage: torch.UntypedStorage
    num_bytes: int
    host: Tensor


class Residency:
    """The tensors of one engine, all on the device or all in host memory.

    Args:
        modules: whose parameters, buffers and other tensors never change; those that cannot be freed are copied.
    """

    def __init__(self, placement: Placement, modules: Sequence[nn.Module]) -> None:
        self._placement = placement
        for module in modules:
            if not all(storage.resizable() for storage in _storages(_on(placement.device, module))):
                module._apply(placement.place)
        on_device = [tensor for module in modules for tensor in _on(placement.device, module)]
        self._storages = [storage for storage in _storages(on_device) if storage.resizable()]
        self._sizes = [storage.nbytes() for storage in self._storages]
        self._opaque = [opaque for module in modules for opaque in _opaque(module)]
        self.weights_bytes = sum(self._sizes) + sum(opaque.nbytes for opaque in self._opaque)
        self._host = self._copied()
        self._away: list[_Away] = []
        self.is_here = True

    def bytes_here(self, in_use: Iterable[InUse] = ()) -> int:
        """What these tensors and those in use take on the device now."""
        own = self._own()
        others = _storages(item.tensor for item in in_use)
        return (
            sum(storage.nbytes() for storage in self._storages)
            + sum(opaque.nbytes for opaque in self._opaque)
            + sum(storage.nbytes() for storage in others if storage._cdata not in own and self._can_leave(storage))
        )

    @property
    def bytes_to_come(self) -> int:
        """What `arrive` takes on the device."""
        return 0 if self.is_here else self.weights_bytes + sum(away.num_bytes for away in self._away)

    @torch.inference_mode()
    def leave(self, in_use: Iterable[InUse]) -> None:
        """Free the device of the weights and of these; raises where the host has no memory, and all is as before."""
        own, away = self._own(), []
        for item in in_use:
            storage = item.tensor.untyped_storage()
            if storage._cdata in own or not self._can_leave(storage):
                continue
            own.add(storage._cdata)
            kept = _bytes(storage) if item.rows is None else item.tensor[item.rows.to(item.tensor.device)]
            away.append(_Away(item, storage, storage.nbytes(), self._placement.host_copy(kept)))
        self._placement.settle()
        self._away = away
        self._free()
        self.is_here = False

    @torch.inference_mode()
    def arrive(self) -> None:
        """Everything back to where it was; raises what an allocation raises, and all is in host memory as before."""
        try:
            for storage, size, host in zip(self._storages, self._sizes, self._host, strict=True):
                storage.resize_(size)
                _bytes(storage).copy_(host, non_blocking=True)
            for opaque in self._opaque:
                assert opaque.host is not None
                setattr(opaque.owner, opaque.name, opaque.host.clone())
            for away in self._away:
                away.storage.resize_(away.num_bytes)
                tensor, rows = away.in_use.tensor, away.in_use.rows
                if rows is None:
                    _bytes(away.storage).copy_(away.host, non_blocking=True)
                else:
                    tensor[rows.to(tensor.device)] = away.host.to(tensor.device, non_blocking=True)
            self._placement.settle()
        except BaseException:
            self._free()
            raise
        self._away = []
        self.is_here = True

    def _can_leave(self, storage: torch.UntypedStorage) -> bool:
        """What numpy or a file has a part in is the host's anyway."""
        return storage.device == self._placement.device and storage.resizable()

    def _own(self) -> set[int]:
        return {storage._cdata for storage in self._storages}

    @torch.inference_mode()
    def _copied(self) -> list[Tensor]:
        """Each storage's bytes in host memory, which is one piece."""
        starts, end = [], 0
        for size in self._sizes:
            starts.append(end)
            end += -(-size // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
        memory = self._placement.host_memory(end)
        host = [memory[start : start + size] for start, size in zip(starts, self._sizes, strict=True)]
        for storage, copy in zip(self._storages, host, strict=True):
            copy.copy_(_bytes(storage), non_blocking=True)
        for opaque in self._opaque:
            opaque.host = getattr(opaque.owner, opaque.name).clone()
        self._placement.settle()
        return host

    def _free(self) -> None:
        for storage in self._storages:
            storage.resize_(0)
        for opaque in self._opaque:
            setattr(opaque.owner, opaque.name, None)
        for away in self._away:
            away.storage.resize_(0)
        self._placement.settle()


def module_bytes(*modules: nn.Module) -> int:
    """What the tensors of modules take, wherever they are."""
    storages = _storages(tensor for module in modules for tensor in _tensors(module))
    opaque = [one for module in modules for one in _opaque(module)]
    return sum(storage.nbytes() for storage in storages) + sum(one.nbytes for one in opaque)


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    """Parameters, buffers and plain attributes that have a storage; of wrapped ones what they are made of."""
    for part in module.modules():
        for holder in (part._parameters, part._buffers, vars(part)):
            for value in holder.values():
                if isinstance(value, Tensor):
                    yield from _plain(value)


def _plain(tensor: Tensor) -> Iterator[Tensor]:
    if is_traceable_wrapper_subclass(tensor):
        for name in tensor.__tensor_flatten__()[0]:
            yield from _plain(getattr(tensor, name))
    elif tensor.layout == torch.strided:
        yield tensor


def _opaque(module: nn.Module) -> Iterator[_Opaque]:
    for part in module.modules():
        for name, value in vars(part).items():
            if isinstance(value, Tensor) and value.is_mkldnn:
                yield _Opaque(part, name)


def _storages(tensors: Iterable[Tensor]) -> list[torch.UntypedStorage]:
    """Each once."""
    found = {storage._cdata: storage for tensor in tensors for storage in [tensor.untyped_storage()]}
    return list(found.values())


def _bytes(storage: torch.UntypedStorage) -> Tensor:
    """(nbytes,) uint8 over the storage."""
    return torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)


def _on(device: torch.device, module: nn.Module) -> Iterator[Tensor]:
    return (tensor for tensor in _tensors(module) if tensor.device == device)
