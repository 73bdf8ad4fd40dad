"""Mapped tensors: released without harm, fingerprinted alike in every format."""

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from models.checkpoints.tensor_files import SHARD_INDEX, CheckpointError, fingerprint, map_tensors, tensor_file

Tensors = dict[str, Tensor]


@pytest.fixture
def tensors() -> Tensors:
    generator = torch.Generator().manual_seed(5)
    return {
        "b": torch.randn(300, 700, generator=generator).half(),
        "a": torch.randn(100_000, generator=generator),
        "c.d": torch.randn(3, generator=generator).bfloat16(),
        "empty": torch.zeros(0, 4),
    }


def write(folder: Path, tensors: Tensors, form: str) -> Path:
    if form == "pickled":
        torch.save(tensors, folder / "x.bin")
        return folder / "x.bin"
    if form == "safetensors":
        save_file(tensors, folder / "x.safetensors")
        return folder / "x.safetensors"
    names = sorted(tensors)
    shards = {"one.safetensors": names[:2], "two.safetensors": names[2:]}
    for shard, held in shards.items():
        save_file({name: tensors[name] for name in held}, folder / shard)
    weight_map = {name: shard for shard, held in shards.items() for name in held}
    (folder / SHARD_INDEX).write_text(json.dumps({"weight_map": weight_map}))
    return folder / SHARD_INDEX


FORMS = ["pickled", "safetensors", "shards"]


@pytest.mark.parametrize("form", FORMS)
def test_every_format_gives_the_same_tensors_and_fingerprint(tmp_path: Path, tensors: Tensors, form: str) -> None:
    mapped = map_tensors(write(tmp_path, tensors, form))
    assert mapped.keys() == tensors.keys()
    assert all(torch.equal(mapped[name], tensors[name]) for name in tensors)
    assert fingerprint(mapped) == fingerprint(tensors)


def test_the_fingerprint_is_the_same_on_every_machine() -> None:
    tensors = {"query": torch.arange(2000, dtype=torch.float32).view(2, 1000), "llm.a": torch.ones(3).half()}
    assert fingerprint(tensors) == "f032dc4482c156972352755edc5d82744546a2416848a2f4006e1551d21241cd"


@pytest.mark.parametrize("change", ["name", "shape", "dtype", "first value", "last value", "absent"])
def test_any_change_that_it_looks_at_changes_the_fingerprint(tensors: Tensors, change: str) -> None:
    before = fingerprint(tensors)
    changed = dict(tensors)
    if change == "name":
        changed["e"] = changed.pop("b")
    elif change == "shape":
        changed["b"] = changed["b"].view(700, 300)
    elif change == "dtype":
        changed["b"] = changed["b"].view(torch.bfloat16)
    elif change == "absent":
        del changed["c.d"]
    else:
        changed["a"] = changed["a"].clone()
        changed["a"][0 if change == "first value" else -1] += 1
    assert fingerprint(changed) != before
    assert fingerprint(tensors) == before


def test_the_order_of_the_names_does_not_matter(tensors: Tensors) -> None:
    assert fingerprint(dict(reversed(tensors.items()))) == fingerprint(tensors)


@pytest.mark.parametrize("form", FORMS)
def test_released_tensors_are_read_again(tmp_path: Path, tensors: Tensors, form: str) -> None:
    mapped = map_tensors(write(tmp_path, tensors, form))
    for name in mapped:
        mapped.release(mapped[name])
        assert torch.equal(mapped[name], tensors[name])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux: pages are given back there alone")
@pytest.mark.parametrize("form", FORMS)
def test_releasing_gives_memory_back(tmp_path: Path, form: str) -> None:
    def file_pages_bytes() -> int:
        line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssFile"))
        return int(line.split()[1]) * 1024

    size = 2**24
    mapped = map_tensors(write(tmp_path, {"a": torch.ones(size // 4), "b": torch.ones(3)}, form))
    mapped.release(mapped["a"])
    before = file_pages_bytes()
    assert mapped["a"].sum() == size // 4
    assert file_pages_bytes() - before > 0.9 * size
    mapped.release(mapped["a"])
    assert file_pages_bytes() - before < 0.1 * size


def test_memory_that_is_no_files_is_never_released(tmp_path: Path, tensors: Tensors) -> None:
    mapped = map_tensors(write(tmp_path, tensors, "pickled"))
    own = torch.ones(2**20)
    mapped.release(own)
    assert own.sum() == 2**20


def test_a_tensor_that_stays_as_it_is_is_not_copied(tmp_path: Path, tensors: Tensors) -> None:
    mapped = map_tensors(write(tmp_path, tensors, "pickled"))
    assert mapped.moved("b", torch.device("cpu"), torch.float16) is mapped["b"]


@pytest.mark.slow
def test_a_large_tensor_is_converted_piece_by_piece(tmp_path: Path) -> None:
    values = torch.arange(2**23 + 3, dtype=torch.int32).remainder(2048).half()  # three pieces
    mapped = map_tensors(write(tmp_path, {"a": values.view(-1, 1)}, "pickled"))
    converted = mapped.moved("a", torch.device("cpu"), torch.float32)
    assert converted.dtype == torch.float32
    assert torch.equal(converted, values.float().view(-1, 1))


@pytest.mark.slow
@pytest.mark.parametrize("form", ["pickled", "safetensors"])
def test_a_part_of_a_tensor_is_moved_alone(tmp_path: Path, form: str) -> None:
    values = torch.arange(3000 * 2048, dtype=torch.int32).remainder(2048).half().view(3000, 2048)  # two pieces
    mapped = map_tensors(write(tmp_path, {"a": values}, form))
    cpu, rows, columns = torch.device("cpu"), (slice(1000, 2500),), (slice(None), slice(512, 1024))
    kept = mapped.moved("a", cpu, torch.float16, part=rows)
    assert kept.data_ptr() == mapped["a"][1000].data_ptr(), "rows lie together: they stay mapped"
    for part in (rows, columns):
        for dtype in (torch.float16, torch.float32):
            moved = mapped.moved("a", cpu, dtype, part=part)
            assert moved.is_contiguous() and torch.equal(moved, values[part].to(dtype))
            assert moved.untyped_storage().nbytes() == moved.nbytes or moved.data_ptr() == kept.data_ptr()


def test_faults_of_shards_are_named(tmp_path: Path, tensors: Tensors) -> None:
    index = write(tmp_path, tensors, "shards")
    assert tensor_file(tmp_path) == index
    fields = json.loads(index.read_text())

    index.write_text(json.dumps({"weight_map": fields["weight_map"] | {"more": "one.safetensors"}}))
    with pytest.raises(CheckpointError, match="index and shards differ in 1 names, such as more"):
        map_tensors(index)
    index.write_text("[]")
    with pytest.raises(CheckpointError, match="not an index of shards"):
        map_tensors(index)
    index.write_text(json.dumps(fields))
    shard = tmp_path / "two.safetensors"
    shard.write_bytes(shard.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match=r"two\.safetensors: truncated, damaged or no safetensors file"):
        map_tensors(index)
    shard.unlink()
    with pytest.raises(CheckpointError, match=r"shards are missing: two\.safetensors"):
        map_tensors(index)
