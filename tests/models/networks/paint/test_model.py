"""Paint's networks in one module: their names, and texts as the UNet gets them."""

from collections.abc import Sequence

import pytest
import torch

from models.engines.paint.prompt import paint_tree
from models.networks.cpm_bee.config import CPMBeeConfig
from models.networks.cpm_bee.packing import PackedBatch, pack_paint
from models.networks.cpm_bee.tokenizer import Tokenizer
from models.networks.paint.config import SD21_BASE_UNET, PaintConfig
from models.networks.paint.model import PaintModel

UNET = {
    **SD21_BASE_UNET,
    "attention_head_dim": [1, 2],
    "block_out_channels": [8, 16],
    "cross_attention_dim": 12,
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "sample_size": 4,
    "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
}


@pytest.fixture
def model(tokenizer: Tokenizer) -> PaintModel:
    torch.manual_seed(0)
    llm = CPMBeeConfig(tokenizer.vocab_size, dim_model=32, dim_ff=48, num_layers=2, num_heads=2, dim_head=16)
    return PaintModel(PaintConfig(llm, UNET)).eval().requires_grad_(False)


def pack(tokenizer: Tokenizer, *texts: str) -> PackedBatch:
    return pack_paint([paint_tree(text) for text in texts], tokenizer)


def parts(names: Sequence[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


@pytest.mark.slow
def test_a_checkpoint_holds_three_parts(model: PaintModel) -> None:
    assert parts(list(model.state_dict())) == {"llm", "prompt_adapter", "unet"}
    assert model.unet.config.sample_size == 4 and model.unet.config.cross_attention_dim == 12


def test_texts_are_adapted_hidden_states_padding_included(model: PaintModel, tokenizer: Tokenizer) -> None:
    batch = pack(tokenizer, "a red image", "")
    encoded = model.encode_prompts(batch)
    assert encoded.shape == (2, batch.ids.shape[1], 12)
    assert torch.equal(encoded, model.prompt_adapter(model.llm(batch)))
    assert encoded.isfinite().all(), "padding rows, which see nothing, are no NaN"
    alone = model.encode_prompts(pack(tokenizer, "a red image"))
    torch.testing.assert_close(encoded[:1], alone, atol=1e-5, rtol=1e-5)


def test_the_unet_paints_with_what_it_is_given(model: PaintModel, tokenizer: Tokenizer) -> None:
    latents = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    painted = [
        model.unet(latents, 7, model.encode_prompts(pack(tokenizer, text))).sample for text in ("red", "the cat", "red")
    ]
    assert painted[0].shape == latents.shape
    assert torch.equal(painted[0], painted[2]) and not torch.allclose(painted[0], painted[1])


def test_a_half_language_model_gives_states_in_the_adapters_dtype(model: PaintModel, tokenizer: Tokenizer) -> None:
    batch = pack(tokenizer, "the red image")
    expected = model.encode_prompts(batch)
    model.llm.half()
    encoded = model.encode_prompts(batch)
    assert encoded.dtype == torch.float32
    torch.testing.assert_close(encoded, expected, atol=0.05, rtol=0.05)
