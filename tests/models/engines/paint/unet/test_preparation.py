"""The prepared UNet computes what the UNet as loaded computes."""

import gc
import weakref

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.activations import GEGLU

from models.checkpoints.bundled import bundled_checkpoint
from models.checkpoints.loading import load_paint
from models.engines.packed_linear import PackedLinear, computes_packed
from models.engines.paint.unet import preparation
from models.engines.paint.unet.preparation import PackedConv2d, PackedGEGLU, prepare_unet


def load(dtype: torch.dtype = torch.float32) -> UNet2DConditionModel:
    return load_paint(bundled_checkpoint("paint"), dtype=dtype).model.unet


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "side", "length"), [(2, 8, 9), (6, 8, 20), (2, 16, 5)])
@pytest.mark.parametrize("masked", [False, True])
@torch.inference_mode()
def test_the_prediction_is_the_same(rows: int, side: int, length: int, masked: bool) -> None:
    plain, prepared = load(), load()
    prepare_unet(prepared)
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(rows, 16, side, side, generator=generator)
    texts = torch.randn(rows, length, 128, generator=generator)
    times = torch.linspace(0, 999, rows).round()
    mask = (torch.arange(length) < torch.tensor([length - 2] + [length] * (rows - 1))[:, None]) if masked else None
    for _ in range(2):  # once with texts that are new, once with known ones
        expected = plain(latents, times, texts, encoder_attention_mask=mask).sample
        got = prepared(latents, times, texts, encoder_attention_mask=mask).sample
        assert (got - expected).abs().max() <= 2e-5 * expected.abs().max()


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.inference_mode()
def test_half_precision_predicts_nearly_the_same(dtype: torch.dtype) -> None:
    plain, prepared = load(dtype), load(dtype)
    assert computes_packed(prepared.device, dtype) == (
        dtype == torch.bfloat16 and torch.cpu._is_avx512_bf16_supported()
    )
    prepare_unet(prepared)
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(2, 16, 8, 8, generator=generator).to(dtype)
    texts = torch.randn(2, 9, 128, generator=generator).to(dtype)
    expected, got = (unet(latents, torch.tensor([500.0] * 2), texts).sample.float() for unet in (plain, prepared))
    assert (got - expected).abs().max() <= 0.1 * expected.abs().max()


@pytest.mark.slow
def test_weights_lie_packed_once() -> None:
    unet = load()
    prepare_unet(unet)
    kinds = [type(module) for module in unet.modules()]
    assert PackedLinear in kinds and PackedConv2d in kinds
    assert PackedGEGLU in kinds and GEGLU not in kinds and torch.nn.Conv2d not in kinds
    few_rows = {name.split(".")[-1] for name, module in unet.named_modules() if isinstance(module, torch.nn.Linear)}
    assert few_rows == {"linear_1", "linear_2", "time_emb_proj"}


@torch.inference_mode()
def test_a_convolution_is_packed_for_the_first_size_and_right_for_all() -> None:
    conv = torch.nn.Conv2d(8, 12, 3, stride=2, padding=1)
    packed = PackedConv2d(conv)
    for rows, side in ((2, 8), (5, 8), (3, 24), (1, 8)):
        pictures = torch.randn(rows, 8, side, side)
        assert torch.allclose(packed(pictures), conv(pictures), atol=1e-5)
        assert packed.size == (8, 8, 8)


@pytest.mark.slow
def test_large_convolutions_are_left_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparation, "MAX_PACKED_BYTES", 1000)
    unet = load()
    prepare_unet(unet)
    kinds = [type(module) for module in unet.modules()]
    assert PackedLinear in kinds and PackedConv2d not in kinds


@pytest.mark.slow
@torch.inference_mode()
def test_what_is_kept_of_texts_goes_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    unet = load()
    prepare_unet(unet)
    attention = unet.mid_block.attentions[0].transformer_blocks[0].attn2
    calls: list[int] = []
    forward = attention.to_kv.forward
    monkeypatch.setattr(attention.to_kv, "forward", lambda rows: (calls.append(len(rows)), forward(rows))[1])
    latents, times = torch.randn(2, 16, 8, 8), torch.tensor([1.0, 2.0])
    texts = torch.randn(2, 9, 128)
    for _ in range(3):
        unet(latents, times, texts)
    assert calls == [2]
    unet(latents, times, other := texts.clone())
    assert calls == [2, 2]
    kept = weakref.ref(attention.processor._known[texts][0])
    gc.disable()
    try:
        del texts
        assert kept() is None
    finally:
        gc.enable()
    assert other in attention.processor._known
