"""Adapters: where they are put, that they begin with nothing, and the weights that they merge into."""

import pytest
import torch
from torch import nn

from models.networks.chat.model import ChatModel
from models.networks.vision.preprocess import normalise
from models.training.lora import LoraSettings, Parts, add_adapters, is_adapter, merged

NUM_LLM, NUM_TOWER = 2 * 7, 2 * 2 * 6  # layers times linears; the tower has two experts


def adapters(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in model.named_parameters() if is_adapter(name)}


@pytest.mark.parametrize(
    ("parts", "expected"), [("llm", {"llm": NUM_LLM}), ("tower", {"vision_encoder": NUM_TOWER}), ("both", None)]
)
def test_every_linear_of_the_parts_layers_gets_a_pair(
    model: ChatModel, parts: Parts, expected: dict[str, int] | None
) -> None:
    add_adapters(model, LoraSettings(rank=2, alpha=4, parts=parts))
    pairs: dict[str, set[str]] = {}
    for name in adapters(model):
        pairs.setdefault(name.split(".")[0], set()).add(name.split(".lora_")[0])
    expected = expected or {"llm": NUM_LLM, "vision_encoder": NUM_TOWER}
    assert {part: len(linears) for part, linears in pairs.items()} == expected
    assert len(adapters(model)) == 2 * sum(expected.values())


def test_a_pair_is_as_narrow_as_its_rank(model: ChatModel) -> None:
    add_adapters(model, LoraSettings(rank=3, alpha=6))
    config = model.config.llm
    down = model.get_parameter("llm.layers.0.feed_forward.up.lora_A.default.weight")
    up = model.get_parameter("llm.layers.0.feed_forward.up.lora_B.default.weight")
    assert (down.shape, up.shape) == ((3, config.dim_model), (config.dim_ff, 3))
    assert down.any() and not up.any()


def test_adapters_change_nothing_until_they_are_trained(model: ChatModel) -> None:
    pixels = normalise(torch.randint(0, 256, (1, 32, 32, 3), generator=torch.Generator().manual_seed(0)))
    with torch.no_grad():
        before = model.image_embeddings(pixels)
        add_adapters(model, LoraSettings(rank=2, alpha=4, parts="both"))
        assert torch.equal(model.image_embeddings(pixels), before)


def test_they_are_drawn_from_torchs_own_generator(model: ChatModel) -> None:
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        layer = nn.ModuleDict({"llm": nn.ModuleDict({"layers": nn.ModuleList([_block()])})})
        torch.manual_seed(seed)
        add_adapters(layer, LoraSettings(rank=2, alpha=4))
        drawn.append(torch.cat([parameter.flatten() for parameter in adapters(layer).values()]))
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


def _block() -> nn.ModuleDict:
    names = {"attention": ("query", "key", "value", "output"), "feed_forward": ("gate", "up", "down")}
    return nn.ModuleDict(
        {part: nn.ModuleDict({name: nn.Linear(4, 4, bias=False) for name in found}) for part, found in names.items()}
    )


def test_the_product_is_merged_by_hand() -> None:
    weights = {
        "a.base_layer.weight": torch.tensor([[1.0, 2.0], [3.0, 4.0]]),
        "a.base_layer.bias": torch.tensor([9.0, 9.0]),
        "a.lora_A.default.weight": torch.tensor([[1.0, 10.0]]),
        "a.lora_B.default.weight": torch.tensor([[1.0], [2.0]]),
        "b.weight": torch.tensor([7.0]),
    }
    found = merged(weights, LoraSettings(rank=1, alpha=3))
    assert found.keys() == {"a.weight", "a.bias", "b.weight"}
    assert found["a.weight"].tolist() == [[1 + 3, 2 + 30], [3 + 6, 4 + 60]]
    assert found["a.bias"].tolist() == [9, 9] and found["b.weight"].tolist() == [7]
    assert weights["a.base_layer.weight"].tolist() == [[1, 2], [3, 4]], "what is trained goes on from where it was"


@pytest.mark.slow
def test_merged_weights_do_what_the_adapters_did(model: ChatModel) -> None:
    settings = LoraSettings(rank=2, alpha=5, parts="both")
    names = set(model.state_dict())
    add_adapters(model, settings)
    for parameter in adapters(model).values():
        nn.init.normal_(parameter, std=0.3)
    plain = ChatModel(model.config)
    plain.load_state_dict(merged(model.state_dict(), settings))
    assert set(plain.state_dict()) == names
    pixels = normalise(torch.randint(0, 256, (1, 32, 32, 3), generator=torch.Generator().manual_seed(0)))
    with torch.no_grad():
        torch.testing.assert_close(plain.image_embeddings(pixels), model.image_embeddings(pixels), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("llm.layers.0.attention.query.lora_A.default.weight", True),
        ("llm.layers.0.attention.query.base_layer.weight", False),
        ("llm.embedding.weight", False),
    ],
)
def test_an_adapter_is_told_by_its_name(name: str, expected: bool) -> None:
    assert is_adapter(name) is expected
