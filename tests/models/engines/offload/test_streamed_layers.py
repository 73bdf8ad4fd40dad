"""Layers streamed into two buffers: the same numbers in any order, in bounded memory, and errors that pass."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest
import torch

from models.engines.offload import streamed_layers
from models.engines.offload.layer_buffer import LayerBuffer
from models.engines.offload.streamed_layers import StreamedLayers
from models.networks.cpm_bee.config import CPMBeeConfig
from models.networks.cpm_bee.layers import Block
from models.networks.cpm_bee.model import CPMBee

CPU = torch.device("cpu")
NUM_LAYERS = 7


@pytest.fixture(scope="module")
def llm() -> CPMBee:
    config = CPMBeeConfig(10, dim_model=16, dim_ff=32, num_layers=NUM_LAYERS, num_heads=2, dim_head=8, half=False)
    return CPMBee(config).requires_grad_(False)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Numbers of the layers whose copies were begun."""
    layers: list[int] = []
    start = streamed_layers._HostCopier.start

    def noted(copier: Any, layer: int, buffer: LayerBuffer) -> Future[None]:
        layers.append(layer)
        return start(copier, layer, buffer)

    monkeypatch.setattr(streamed_layers._HostCopier, "start", noted)
    yield layers


def assert_is_layer(module: Any, llm: CPMBee, layer: int) -> None:
    assert isinstance(module, Block) and module.index == layer
    for (name, ours), (_, theirs) in zip(module.named_parameters(), llm.layers[layer].named_parameters(), strict=True):
        assert torch.equal(ours, theirs), name


def test_a_pass_copies_each_layer_once_and_one_ahead(llm: CPMBee, started: list[int]) -> None:
    streamed = StreamedLayers(llm.layers, CPU, torch.float32)
    for _ in range(3):
        for layer, module in enumerate(streamed):
            assert_is_layer(module, llm, layer)
            assert started[-1] == (layer + 1) % NUM_LAYERS, "the next one is on its way"
    assert len(started) == 3 * NUM_LAYERS + 1
    assert streamed.device_bytes == 2 * streamed.layer_bytes


def test_layers_come_in_any_order(llm: CPMBee) -> None:
    streamed = StreamedLayers(llm.layers, CPU, torch.float32)
    generator = torch.Generator().manual_seed(1)
    for layer in torch.randint(0, NUM_LAYERS, (60,), generator=generator).tolist():
        assert_is_layer(streamed[layer], llm, layer)


@pytest.mark.parametrize("num_fitting", range(2, NUM_LAYERS + 2))
def test_more_memory_keeps_layers_on_the_device(llm: CPMBee, num_fitting: int, started: list[int]) -> None:
    layer_bytes = StreamedLayers(llm.layers, CPU, torch.float32).layer_bytes
    streamed = StreamedLayers(llm.layers, CPU, torch.float32, num_fitting * layer_bytes + 5)
    assert streamed.num_resident == (num_fitting - 2 if num_fitting < NUM_LAYERS else NUM_LAYERS)
    started.clear()
    for _ in range(2):
        for layer, module in enumerate(streamed):
            assert_is_layer(module, llm, layer)
            assert streamed.device_bytes <= num_fitting * layer_bytes
    num_streamed = NUM_LAYERS - streamed.num_resident
    assert len(started) == (2 * num_streamed + 1 if num_streamed > 2 else num_streamed)


def test_less_memory_than_two_layers_is_refused_with_what_they_take(llm: CPMBee) -> None:
    two_bytes = 2 * sum(parameter.nbytes for parameter in llm.layers[0].parameters())
    with pytest.raises(ValueError, match=f"100 bytes for layers .* two of them, {two_bytes}$"):
        StreamedLayers(llm.layers, CPU, torch.float32, 100)


def test_a_model_of_one_layer_has_one_buffer(llm: CPMBee) -> None:
    streamed = StreamedLayers(torch.nn.ModuleList([llm.layers[0]]), CPU, torch.float32)
    for _ in range(2):
        assert [module.index for module in streamed] == [0]  # type: ignore[misc]
    assert streamed.device_bytes == streamed.layer_bytes


def test_at_rest_nothing_is_on_the_device(llm: CPMBee) -> None:
    streamed = StreamedLayers(llm.layers, CPU, torch.float32)
    streamed.rest()
    for layer in (0, 1, 4):
        assert_is_layer(streamed[layer], llm, layer)
        streamed.rest()
        assert streamed.device_bytes == 0


def test_parameters_are_counted_as_they_are_stored(llm: CPMBee) -> None:
    stored = sum(parameter.numel() for parameter in llm.layers.parameters())
    streamed = StreamedLayers(llm.layers, CPU, torch.float32)
    list(streamed)
    assert sum(parameter.numel() for parameter in streamed.parameters()) == stored


def test_a_copy_that_fails_is_told_where_its_layer_is_used_and_made_again(
    llm: CPMBee, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill = LayerBuffer.fill
    failures = iter([False, False, True])

    def failing(buffer: LayerBuffer, parameters: Any) -> None:
        if next(failures, False):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        fill(buffer, parameters)

    monkeypatch.setattr(LayerBuffer, "fill", failing)
    streamed = StreamedLayers(llm.layers, CPU, torch.float32)
    streamed[0]
    assert_is_layer(streamed[1], llm, 1)
    with pytest.raises(torch.OutOfMemoryError):
        streamed[2]
    for layer, module in enumerate(streamed):
        assert_is_layer(module, llm, layer)


def test_a_layer_is_copied_while_the_one_before_computes(llm: CPMBee, monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy of the next layer is under way, held up, when a layer is handed out."""
    fill = LayerBuffer.fill
    go_on = threading.Event()
    go_on.set()

    def held_up(buffer: LayerBuffer, parameters: Any) -> None:
        assert go_on.wait(10)
        fill(buffer, parameters)

    monkeypatch.setattr(LayerBuffer, "fill", held_up)
    streamed = StreamedLayers(llm.layers, CPU, torch.float32)
    streamed[0]
    streamed._copies[1].result()
    go_on.clear()
    assert_is_layer(streamed[1], llm, 1)
    assert not streamed._copies[2].done()
    go_on.set()
    assert_is_layer(streamed[2], llm, 2)


def test_inference_tensors_and_others_are_both_served(llm: CPMBee) -> None:
    """Engines compute in inference mode, warm-ups and parity sometimes not."""
    streamed = StreamedLayers(llm.layers, CPU, torch.float32)
    with torch.inference_mode():
        for layer, module in enumerate(streamed):
            assert_is_layer(module, llm, layer)
    for layer, module in enumerate(streamed):
        assert_is_layer(module, llm, layer)
