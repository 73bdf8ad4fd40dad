"""Packed weights: the same products, whatever else is in the batch."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from models.checkpoints.loading import LoadedChat
from models.engines.chat.prompt import build_prompt, pack_prompts
from models.engines.packed_linear import PackedLinear, can_pack, pack_language_model, pack_linears, packed
from models.networks.cpm_bee.folding import fold_scalings
from tests.models.engines.chat.jobs import job

ROWS = (1, 2, 3, 7, 16, 48, 173)


def weights(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(96, 64, generator=torch.Generator().manual_seed(0)).to(dtype)


def rows(count: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(count, 64, generator=torch.Generator().manual_seed(1)).to(dtype)


@pytest.mark.parametrize("count", ROWS)
@torch.inference_mode()
def test_products_are_those_of_the_plain_layout(count: int) -> None:
    weight, bias, x = weights(), torch.randn(96), rows(count)
    torch.testing.assert_close(PackedLinear(weight, bias)(x), F.linear(x, weight, bias), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(PackedLinear(weight)(x[None]), F.linear(x[None], weight), rtol=1e-5, atol=1e-5)


@torch.inference_mode()
def test_a_row_does_not_depend_on_its_neighbours() -> None:
    layer, x = PackedLinear(weights()), rows(173)
    whole = layer(x)
    for count in ROWS:
        assert torch.equal(layer(x[:count]), whole[:count]), f"{count} rows"


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
