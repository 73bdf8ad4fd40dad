"""Tensors of checkpoint files, mapped into memory instead of read, and the fingerprint of what they hold.

A mapped tensor costs no memory of its own: its pages are the file's, read when they are touched and given back by
`release`. Writing to one makes private copies of the pages written; the file never changes.
"""

import ctypes
import hashlib
import json
import mmap
import pickle
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

SHARD_INDEX = "model.safetensors.index.json"
_PICKLED_SUFFIXES = (".bin", ".pt", ".pth")
_PIECE_VALUES = 2**22
_SAMPLED_BLOCKS = 4
_SAMPLED_BLOCK_BYTES = 1024


class CheckpointError(Exception):
    """A checkpoint that cannot be used; the message is one line that names the file and what is wrong with it."""


def tensor_file(path: Path) -> Path:
    """The file or the sharded folder's index behind `path`; a folder with one plain checkpoint file stands for it."""
    if path.is_file():
        return path
    if not path.is_dir():
        raise CheckpointError(f"{path}: no such file or folder")
    if (path / SHARD_INDEX).is_file():
        return path / SHARD_INDEX
    suffixes = (*_PICKLED_SUFFIXES, ".safetensors")
    files = sorted(file for file in path.iterdir() if file.is_file() and file.suffix in suffixes)
    if len(files) == 1:
        return files[0]
    found = f"{len(files)} of them: {', '.join(file.name for file in files)}" if files else "none"
    raise CheckpointError(f"{path}: expected {SHARD_INDEX} or one file ending in {', '.join(suffixes)}, found {found}")


class MappedTensors(dict[str, Tensor]):
    """Name -> tensor whose bytes are a file's."""

    def __init__(self) -> None:
        super().__init__()
        self._ranges: list[tuple[int, int]] = []

    def add_file(self, file: Path, tensors: Mapping[str, Tensor]) -> None:
        self.update((name, tensor.contiguous()) for name, tensor in tensors.items())
        self._ranges += _mapped_ranges(file)

    def release(self, tensor: Tensor) -> None:
        """Give the memory of a mapped, unwritten tensor back; the file is read again if it is touched once more."""
        release_pages(tensor, self._ranges)

    def moved(
        self, name: str, device: torch.device, dtype: torch.dtype, is_copied: bool = False, part: tuple[slice, ...] = ()
    ) -> Tensor:
        """The tensor in another place or dtype, copied piece by piece.

        Where nothing changes it is the tensor itself, still mapped, unless a copy is asked for.

        Args:
            part: some rows, or some columns of all rows; (): all of it.
        """
        whole = self[name]
        wanted = whole[part] if part else whole
        is_stretch = wanted.is_contiguous()
        if is_stretch and (wanted.device, wanted.dtype) == (device, dtype) and not is_copied:
            return wanted
        target = torch.empty(wanted.shape, dtype=dtype, device=device)
        if is_stretch:
            sources, pieces = wanted.view(-1).split(_PIECE_VALUES), target.view(-1).split(_PIECE_VALUES)
        else:
            num_rows = max(_PIECE_VALUES // whole.shape[1], 1)
            sources, pieces = whole.split(num_rows), target.split(num_rows)
        for source, piece in zip(sources, pieces, strict=True):
            piece.copy_(source if is_stretch else source[part])
            self.release(source)
        return target

    def moved_transposed(self, name: str, dtype: torch.dtype) -> Tensor:
        """The matrix in a dtype, copied piece by piece, its columns one after the other in memory."""
        stored = self[name]
        target = torch.empty(stored.shape[::-1], dtype=dtype).t()
        rows = max(_PIECE_VALUES // stored.shape[1], 1)
        for source, piece in zip(stored.split(rows), target.split(rows), strict=True):
            piece.copy_(source)
            self.release(source)
        return target


def release_pages(tensor: Tensor, ranges: Sequence[tuple[int, int]]) -> None:
    """Give an unwritten tensor's memory back where it lies in one of the address ranges, which are those of files."""
    page = mmap.PAGESIZE
    start = -(-tensor.data_ptr() // page) * page
    end = (tensor.data_ptr() + tensor.nbytes) // page * page
    # Outside of a file's mapping the same call would zero the memory.
    if any(first <= start < end <= last for first, last in ranges):
        ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), mmap.MADV_DONTNEED)


def map_tensors(file: Path) -> MappedTensors:
    """The tensors of what `tensor_file` found. Raises CheckpointError where it is no whole checkpoint."""
    mapped = MappedTensors()
    if file.name == SHARD_INDEX:
        for shard, tensors in _map_shards(file).items():
            mapped.add_file(shard, tensors)
    elif file.suffix == ".safetensors":
        mapped.add_file(file, _map_safetensors(file))
    else:
        mapped.add_file(file, _map_pickled(file))
    return mapped


class Fingerprint:
    """Digest of every tensor's name, shape, dtype and a few KiB of its bytes; tensors come in the order of names.

    Equal contents give the same fingerprint in whatever file format they are stored.
    """

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, name: str, tensor: Tensor) -> None:
        header = [name, list(tensor.shape), str(tensor.dtype).removeprefix("torch."), tensor.nbytes]
        self._digest.update(json.dumps(header).encode())
        data = tensor.contiguous().view(-1).view(torch.uint8)
        last = max(data.numel() - _SAMPLED_BLOCK_BYTES, 0)
        # Evenly spaced, the first and the last block included; small tensors are covered several times over.
        for block in range(_SAMPLED_BLOCKS):
            start = last * block // (_SAMPLED_BLOCKS - 1)
            self._digest.update(data[start : start + _SAMPLED_BLOCK_BYTES].numpy().tobytes())

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """The fingerprint of a whole checkpoint."""
    result = Fingerprint()
    for name in sorted(tensors):
        result.add(name, tensors[name])
        if isinstance(tensors, MappedTensors):
            tensors.release(tensors[name])
    return result.hexdigest()


def _map_pickled(file: Path) -> dict[str, Tensor]:
    try:
        with file.open("rb") as opened:
            magic = opened.read(4)
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read ({error.strerror})") from error
    if magic[:2] == b"\x80\x02":
        raise CheckpointError(
            f"{file}: saved in PyTorch's old format, which cannot be mapped; save it again with torch.save"
        )
    if magic != b"PK\x03\x04":
        raise CheckpointError(f"{file}: not a PyTorch checkpoint (a zip archive written by torch.save)")
    try:
        content: Any = torch.load(file, map_location="cpu", mmap=True, weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{file}: refused, since it holds Python objects other than tensors") from error
    except (OSError, RuntimeError, ValueError, EOFError) as error:
        raise CheckpointError(f"{file}: truncated or damaged ({_first_line(error)})") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{file}: holds a {type(content).__name__}, expected a dictionary of tensors")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise CheckpointError(f"{file}: holds a {type(value).__name__} under {name!r}, expected tensors alone")
    return dict(content)


def _map_safetensors(file: Path) -> dict[str, Tensor]:
    try:
        with safe_open(file, framework="pt", device="cpu") as opened:
            return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file}: truncated, damaged or no safetensors file ({_first_line(error)})") from error


def _map_shards(index: Path) -> dict[Path, dict[str, Tensor]]:
    try:
        shard_of: dict[str, str] = dict(json.loads(index.read_text(encoding="utf-8"))["weight_map"])
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{index}: not an index of shards ({_first_line(error)})") from error
    names = sorted(set(shard_of.values()))
    absent = [name for name in names if not (index.parent / name).is_file()]
    if absent:
        raise CheckpointError(f"{index.parent}: shards are missing: {', '.join(absent)}")
    shards = {index.parent / name: _map_safetensors(index.parent / name) for name in names}
    found = {tensor: file.name for file, tensors in shards.items() for tensor in tensors}
    differing = sorted(name for name in found.keys() | shard_of.keys() if found.get(name) != shard_of.get(name))
    if differing:
        raise CheckpointError(f"{index}: index and shards differ in {len(differing)} names, such as {differing[0]}")
    return shards


def mapped_ranges(tensors: Sequence[Tensor]) -> list[tuple[int, int]]:
    """Address ranges of this process that files are mapped to and that hold one of these tensors."""
    addresses = [tensor.data_ptr() for tensor in tensors]
    return [(start, end) for start, end, _ in _file_mappings() if any(start <= each < end for each in addresses)]


def _mapped_ranges(file: Path) -> list[tuple[int, int]]:
    """Address ranges of this process that are mapped from `file`; none where the system does not tell."""
    path = str(file.resolve())
    return [(start, end) for start, end, name in _file_mappings() if name == path]


def _file_mappings() -> list[tuple[int, int, str]]:
    if not sys.platform.startswith("linux"):
        return []
    found = []
    for line in Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and fields[5].startswith("/"):
            start, end = fields[0].split("-")
            found.append((int(start, 16), int(end, 16), fields[5]))
    return found


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].split(". ")[0]
