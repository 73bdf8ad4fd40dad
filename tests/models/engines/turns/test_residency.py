"""Tensors leave and come back as they were, and their bytes are really gone meanwhile."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from models.engines import packed_linear
from models.engines.packed_linear import PackedLinear
from models.engines.turns.placement import HostPlacement
from models.engines.turns.residency import InUse, Residency, module_bytes

CPU = HostPlacement(torch.device("cpu"))


@pytest.fixture(autouse=True)
def opaque_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """However small."""
    monkeypatch.setattr(packed_linear, "_MOST_CACHED", 0)


class Network(nn.Module):
    """Tied weights, a buffer, a plain attribute and a packed layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(32, 16)
        self.projection = nn.Linear(16, 32, bias=False)
        self.projection.weight = self.embedding.weight
        self.register_buffer("mean", torch.randn(16))
        self.offset = torch.randn(16)
        self.packed = PackedLinear(torch.randn(16, 16), torch.randn(16))

    @torch.inference_mode()
    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.projection(self.packed(self.embedding(ids) - self.mean) + self.offset)


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    return Network()


BYTES = 4 * (32 * 16 + 16 + 16 + 16 * 16 + 16)  # the tied weight once


def test_weights_come_back_as_they_were(network: Network) -> None:
    ids = torch.arange(5)
    expected = network(ids)
    weight, row = network.embedding.weight, network.embedding.weight[3]
    residency = Residency(CPU, [network])
    assert residency.weights_bytes == residency.bytes_here() == module_bytes(network) == BYTES
    for _ in range(3):
        residency.leave([])
        assert not residency.is_here and residency.bytes_here() == 0 and residency.bytes_to_come == BYTES
        assert weight.untyped_storage().nbytes() == 0 and network.packed._weight is None
        residency.arrive()
        assert residency.is_here and residency.bytes_here() == BYTES and residency.bytes_to_come == 0
        assert torch.equal(network(ids), expected)
    assert network.embedding.weight is weight and network.projection.weight is weight
    assert torch.equal(row, weight[3]), "a view looks at the same memory again"


def test_what_is_in_use_comes_back_with_what_was_done_to_it(network: Network) -> None:
    residency = Residency(CPU, [network])
    pool = torch.zeros(8, 3)
    both = torch.zeros(2, 4)
    views = [both[0], both[1]]  # one storage
    for number in (1, 2):
        pool[[2, 5]] = torch.full((2, 3), float(number))
        both += number
        in_use = [InUse(pool, torch.tensor([5, 2])), *map(InUse, views)]
        assert residency.bytes_here(in_use) == BYTES + 4 * (24 + 8)
        residency.leave(in_use)
        assert residency.bytes_here(in_use) == 0 and residency.bytes_to_come == BYTES + 4 * (24 + 8)
        residency.arrive()
        assert torch.equal(pool[[2, 5]], torch.full((2, 3), float(number)))
    assert torch.equal(both, torch.full((2, 4), 3.0)) and torch.equal(views[1], both[1])


def test_an_empty_pool_goes_too(network: Network) -> None:
    residency = Residency(CPU, [network])
    pool = torch.zeros(8, 3)
    residency.leave([InUse(pool, torch.tensor([], dtype=torch.int64))])
    assert pool.untyped_storage().nbytes() == 0
    residency.arrive()
    assert pool.untyped_storage().nbytes() == 96


def test_weights_of_a_mapped_file_are_copied_first(tmp_path: Path) -> None:
    save_file({"weight": torch.randn(64, 64), "bias": torch.randn(64)}, tmp_path / "file.safetensors")
    linear = nn.Linear(64, 64)
    linear.load_state_dict(load_file(tmp_path / "file.safetensors"), assign=True)
    x = torch.randn(2, 64)
    expected = linear(x)
    residency = Residency(CPU, [linear])
    residency.leave([])
    assert residency.bytes_here() == 0 and residency.weights_bytes == 4 * 65 * 64
    residency.arrive()
    assert torch.equal(linear(x), expected)


class NoMemory(TorchDispatchMode):
    """The third copy fails."""

    def __init__(self) -> None:
        super().__init__()
        self.copies = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.copies += func is torch.ops.aten.copy_.default
        if self.copies == 3:
            raise MemoryError("no more")
        return func(*args, **(kwargs or {}))


def test_where_it_does_not_fit_nothing_is_there(network: Network) -> None:
    ids = torch.arange(5)
    expected = network(ids)
    residency = Residency(CPU, [network])
    state = torch.ones(4)
    residency.leave([InUse(state)])
    with pytest.raises(MemoryError), NoMemory():
        residency.arrive()
    assert not residency.is_here and residency.bytes_here([InUse(state)]) == 0
    residency.arrive()
    assert torch.equal(network(ids), expected) and torch.equal(state, torch.ones(4))


def test_wrapped_weights_are_what_they_are_made_of() -> None:
    """As quantized ones are."""
    torchao = pytest.importorskip("torchao.quantization")
    linear = nn.Linear(64, 64, bias=False)
    torchao.quantize_(linear, torchao.Int8WeightOnlyConfig())
    x = torch.randn(2, 64)
    with torch.inference_mode():
        expected = functional.linear(x, linear.weight)
        residency = Residency(CPU, [linear])
        assert 64 * 64 <= residency.weights_bytes < 2 * 64 * 64
        residency.leave([])
        assert residency.bytes_here() == 0
        residency.arrive()
        assert torch.equal(functional.linear(x, linear.weight), expected)
