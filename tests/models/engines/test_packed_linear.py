"""Packed weights: the same products, whatever else is in the batch."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from models.checkpoints.bundled import bundled_checkpoint
from models.checkpoints.loading import LoadedChat, load_chat
from models.engines import packed_linear
from models.engines.chat.prompt import build_prompt, pack_prompts
from models.engines.packed_linear import (
    PackedLinear,
    can_pack,
    multiply_plainly,
    pack_language_model,
    pack_linears,
    packed,
)
from models.jobs import Quantization
from models.networks.cpm_bee.folding import fold_scalings
from models.networks.cpm_bee.quantized_linear import QuantizedLinear
from tests.models.engines.chat.jobs import job

ROWS = (1, 2, 3, 7, 16, 48, 173)


@pytest.fixture(autouse=True)
def cached_weights(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """None, so that weights of a test's size are packed, unless the test says how many."""
    monkeypatch.setattr(packed_linear, "_MOST_CACHED", getattr(request, "param", 0))


def weights(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(96, 64, generator=torch.Generator().manual_seed(0)).to(dtype)


def rows(count: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(count, 64, generator=torch.Generator().manual_seed(1)).to(dtype)


@pytest.mark.parametrize("cached_weights", [0, 96 * 64], indirect=True)
@pytest.mark.parametrize("count", ROWS)
@torch.inference_mode()
def test_products_are_those_of_the_plain_layout(count: int) -> None:
    weight, bias, x = weights(), torch.randn(96), rows(count)
    torch.testing.assert_close(PackedLinear(weight, bias)(x), F.linear(x, weight, bias), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(PackedLinear(weight)(x[None]), F.linear(x[None], weight), rtol=1e-5, atol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize("cached_weights", [96 * 64], indirect=True)
def test_few_weights_stay_as_they_lie() -> None:
    assert not PackedLinear(weights())._weight.is_mkldnn and PackedLinear(weights().repeat(1, 2))._weight.is_mkldnn


@torch.inference_mode()
def test_a_row_does_not_depend_on_its_neighbours() -> None:
    layer, x = PackedLinear(weights()), rows(173)
    whole = layer(x)
    for count in ROWS:
        assert torch.equal(layer(x[:count]), whole[:count]), f"{count} rows"


@pytest.mark.parametrize("count", [*ROWS, 300])
@torch.inference_mode()
def test_a_weight_that_changes_gives_the_products_of_what_it_is_now(count: int) -> None:
    module, x = nn.Sequential(nn.Linear(64, 96), nn.Linear(96, 16, bias=False)).requires_grad_(False), rows(count)
    plain = copy.deepcopy(module)
    multiply_plainly(plain, torch.device("cpu"), torch.float32)
    assert plain.state_dict().keys() == module.state_dict().keys()
    for weight, again in zip(module.parameters(), plain.parameters(), strict=True):
        again.copy_(weight.normal_())
    torch.testing.assert_close(plain(x[None]), module(x[None]), rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_few_rows_by_a_weight_that_changes_do_not_depend_on_one_another() -> None:
    module, x = nn.Sequential(nn.Linear(64, 96, bias=False)), rows(64)
    multiply_plainly(module, torch.device("cpu"), torch.float32)
    whole = module(x[None])
    for count in (1, 2, 3, 24):
        assert torch.equal(module(x[None, :count]), whole[:, :count]), f"{count} rows"


def test_what_the_processor_has_no_product_for_is_left() -> None:
    module = nn.Sequential(nn.Linear(64, 96))
    multiply_plainly(module, torch.device("cpu"), torch.float16)
    assert type(module[0]) is nn.Linear


@torch.inference_mode()
def test_bfloat16_is_packed_where_the_processor_has_it() -> None:
    weight, x = weights(torch.bfloat16), rows(3, torch.bfloat16)
    assert can_pack(weight) == torch.cpu._is_avx512_bf16_supported()
    layer = packed(nn.Linear(64, 96, bias=False, dtype=torch.bfloat16))
    assert layer(x).dtype == torch.bfloat16


def test_what_cannot_be_packed_stays() -> None:
    half = nn.Linear(64, 96, dtype=torch.float16)
    assert packed(half) is half
    small = nn.Linear(64, 4)
    assert packed(small) is small


@torch.inference_mode()
def test_every_linear_within_is_packed_and_none_other() -> None:
    module = nn.Sequential(nn.Linear(64, 64), nn.GELU(), nn.ModuleList([nn.Linear(64, 96)]))
    first, last = module[0], module[2][0]
    x = rows(5)
    expected = last(F.gelu(first(x)))
    pack_linears(module)
    assert type(module[0]) is type(module[2][0]) is PackedLinear and type(module[1]) is nn.GELU
    torch.testing.assert_close(module[2][0](module[1](module[0](x))), expected, rtol=1e-5, atol=1e-5)
    assert not module.state_dict(), "packed weights cannot be saved"


@torch.inference_mode()
def test_a_packed_language_model_gives_the_same_numbers(loaded: LoadedChat) -> None:
    plain, llm = loaded.model.llm, copy.deepcopy(loaded.model.llm)
    prompt = build_prompt(job(), loaded.tokenizer, 4)
    batch = pack_prompts([prompt], loaded.tokenizer)
    expected = plain(batch)
    fold_scalings(llm)
    pack_language_model(llm)
    assert not any(type(module) is nn.Linear for module in llm.modules())
    torch.testing.assert_close(llm(batch), expected, rtol=1e-4, atol=1e-4)
    places = torch.tensor([[3, 0]])
    torch.testing.assert_close(llm(batch, places=places), expected[:, [3, 0]], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(llm.logits(expected, None), plain.logits(expected, None), rtol=1e-3, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("quantization", ["int8", "int4"])
@torch.inference_mode()
def test_quantized_layers_are_not_packed_and_no_second_embedding_is_kept(quantization: Quantization) -> None:
    def served(is_packed: bool) -> LoadedChat:
        chat = load_chat(
            bundled_checkpoint("chat"), dtype=torch.float32, quantization=quantization, is_to_change=is_packed
        )
        fold_scalings(chat.model.llm)
        if is_packed:
            pack_language_model(chat.model.llm)
        return chat

    plain, chat = served(is_packed=False), served(is_packed=True)
    llm = chat.model.llm
    assert not any(isinstance(module, PackedLinear) for module in llm.modules())
    assert sum(isinstance(module, QuantizedLinear) for module in llm.modules()) == 3 * 4  # joined ones, and two others
    assert llm.vocabulary_projection is None
    assert llm.embedding.weight.stride() == (1, len(llm.embedding.weight))  # laid out for the projection
    batch = pack_prompts([build_prompt(job(pixels=b""), chat.tokenizer, 16)], chat.tokenizer)
    hidden, expected = llm(batch), plain.model.llm(batch)
    torch.testing.assert_close(hidden, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(llm.logits(hidden, None), plain.model.llm.logits(expected, None), rtol=1e-3, atol=1e-3)


def test_a_model_that_is_not_asked_for_logits_keeps_no_projection(loaded: LoadedChat) -> None:
    llm = copy.deepcopy(loaded.model.llm)
    fold_scalings(llm)
    pack_language_model(llm, projects=False)
    assert llm.vocabulary_projection is None and isinstance(llm.blocks[0].attention.joined, PackedLinear)
