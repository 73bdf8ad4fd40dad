"""Sizes of Paint: what is taken from Stable Diffusion 2.1-base."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel

from models.networks.cpm_bee.config import CPMBeeConfig
from models.networks.paint.config import SD21_BASE_SCHEDULER, SD21_BASE_UNET, PaintConfig

PARITY = Path(__file__).parents[3] / "parity"
MANIFESTS = Path(__file__).parents[5] / "shared" / "manifests"
LLM = CPMBeeConfig(50, dim_model=32, dim_ff=48, num_layers=2, num_heads=2, dim_head=16)


def test_text_states_are_as_wide_as_the_unet_wants_them() -> None:
    assert PaintConfig(LLM, SD21_BASE_UNET).cross_attention_dim == 1024
    assert PaintConfig(LLM, {**SD21_BASE_UNET, "cross_attention_dim": 16}).cross_attention_dim == 16


@pytest.mark.slow
def test_the_unet_is_that_of_the_release() -> None:
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(dict(SD21_BASE_UNET))
    assert sum(parameter.numel() for parameter in unet.parameters()) == 865_910_724
    # `attention_head_dim` counts heads: each is 64 wide, on every level
    widths = zip(SD21_BASE_UNET["block_out_channels"], SD21_BASE_UNET["attention_head_dim"], strict=True)
    assert [width // heads for width, heads in widths] == [64] * 4
    assert unet.down_blocks[2].attentions[0].transformer_blocks[0].attn1.heads == 20


def test_the_schedule_is_the_one_whose_tables_the_reference_has() -> None:
    stored = json.loads((PARITY / "scheduler" / "scheduler_config.json").read_text())
    assert {name: stored[name] for name in SD21_BASE_SCHEDULER} == dict(SD21_BASE_SCHEDULER)


@pytest.mark.parametrize(
    ("part", "ours"), [("unet_sd21base", SD21_BASE_UNET), ("scheduler_sd21base", SD21_BASE_SCHEDULER)]
)
def test_published_fields_are_equal(part: str, ours: dict[str, Any]) -> None:
    if not (MANIFESTS / "configs.json").is_file():
        pytest.skip("reference data: the release's configurations are not here (../shared/manifests)")
    published = json.loads((MANIFESTS / "configs.json").read_text())[part]
    published.pop("_diffusers_version", None)
    assert dict(ours) == published
