"""A layer's place: all parameters in one stretch, taken and given back."""

import torch
from torch import nn

from models.engines.offload.layer_buffer import LayerBuffer, LayerLayout, on_meta

CPU = torch.device("cpu")


def layer(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 3), nn.LayerNorm(3), nn.Linear(3, 7, bias=False)).requires_grad_(False)


def test_parameters_lie_apart_and_aligned() -> None:
    layout = LayerLayout(layer(), torch.float16)
    views = layout.views(torch.zeros(layout.num_values, dtype=torch.float16))
    for number, view in enumerate(views):
        assert view.data_ptr() % 256 == views[0].data_ptr() % 256
        view.fill_(number + 1)
    assert [view.unique().tolist() for view in views] == [[1], [2], [3], [4], [5]]
    assert layout.num_bytes == layout.num_values * 2


def test_a_buffer_computes_what_was_copied_into_it_last() -> None:
    x = torch.randn(2, 5)
    buffer = LayerBuffer(layer(), LayerLayout(layer(), torch.float32), CPU)
    assert buffer.num_bytes == 0
    for seed in (1, 2):
        buffer.fill(list(layer(seed).parameters()))
        assert torch.equal(buffer.module(x), layer(seed)(x))
    assert buffer.num_bytes == LayerLayout(layer(), torch.float32).num_bytes
    place = buffer.take_memory().data_ptr()
    buffer.fill(list(layer(3).parameters()))
    assert buffer.take_memory().data_ptr() == place, "no memory is taken again"
    assert all(not parameter.requires_grad for parameter in buffer.module.parameters())


def test_memory_is_given_back_and_taken_again() -> None:
    buffer = LayerBuffer(layer(), LayerLayout(layer(), torch.float32), CPU)
    buffer.fill(list(layer(1).parameters()))
    buffer.free()
    assert buffer.num_bytes == 0
    assert {parameter.device.type for parameter in buffer.module.parameters()} == {"meta"}
    buffer.fill(list(layer(2).parameters()))
    x = torch.randn(2, 5)
    assert torch.equal(buffer.module(x), layer(2)(x))


def test_another_dtype_is_converted_on_the_way() -> None:
    stored = layer(4).half()
    buffer = LayerBuffer(stored, LayerLayout(stored, torch.float32), CPU)
    buffer.fill(list(stored.parameters()))
    for ours, theirs in zip(buffer.module.parameters(), stored.parameters(), strict=True):
        assert ours.dtype == torch.float32 and torch.equal(ours, theirs.float())


def test_a_module_without_memory_has_the_same_shape_and_leaves_the_first_alone() -> None:
    first = layer()
    empty = on_meta(first)
    assert [parameter.shape for parameter in empty.parameters()] == [
        parameter.shape for parameter in first.parameters()
    ]
    assert {parameter.device.type for parameter in empty.parameters()} == {"meta"}
    assert {parameter.device.type for parameter in first.parameters()} == {"cpu"}
