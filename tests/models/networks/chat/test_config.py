"""Sizes of Chat: read as published, written back, refused where no model has them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from models.networks.chat.config import ChatConfig
from models.networks.cpm_bee.config import CPMBeeConfig
from models.networks.vision.config import VisionConfig

PARITY = Path(__file__).parents[3] / "parity"
CONFIG = ChatConfig(
    llm=CPMBeeConfig(50, dim_model=32, dim_ff=48, num_layers=2, num_heads=2, dim_head=16),
    vision=VisionConfig(32, patch_size_px=16, width=32, num_heads=2, dim_ff=48, num_layers=1, num_query_positions=10),
    num_query_tokens=4,
)


def test_published_fields_are_read_and_written_back() -> None:
    fields = CONFIG.to_published()
    assert fields["query_num"] == 4
    assert ChatConfig.from_published(json.loads(json.dumps(fields)) | {"image_size": 224}) == CONFIG


def test_the_references_configuration_is_read() -> None:
    fields = json.loads((PARITY / "chat_config.json").read_text())
    config = ChatConfig.from_published(fields)
    assert config.num_query_tokens == fields["query_num"]
    assert (config.llm.dim_model, config.llm.num_layers) == (fields["llm"]["dim_model"], fields["llm"]["num_layers"])
    assert config.image_size_px == fields["vision"]["img_size"]


def test_the_release_has_64_query_tokens() -> None:
    assert ChatConfig(CONFIG.llm, replace(CONFIG.vision, num_query_positions=1024)).num_query_tokens == 64


@pytest.mark.parametrize("count", [0, -1, 9, 64])
def test_query_tokens_that_the_tower_has_no_positions_for_are_refused(count: int) -> None:
    """Two of its ten positions come before the first that is used."""
    assert replace(CONFIG, num_query_tokens=8).num_query_tokens == 8
    with pytest.raises(ValueError, match=f"^{count} query tokens; the vision tower has positions for 1 to 8$"):
        replace(CONFIG, num_query_tokens=count)


@pytest.mark.parametrize("absent", ["llm", "vision", "query_num"])
def test_a_missing_part_is_named(absent: str) -> None:
    fields = CONFIG.to_published()
    del fields[absent]
    with pytest.raises(KeyError, match=absent):
        ChatConfig.from_published(fields)


def test_another_picture_side_changes_nothing_else() -> None:
    other = CONFIG.with_image_size(64)
    assert (other.image_size_px, CONFIG.image_size_px) == (64, 32)
    assert other.with_image_size(32) == CONFIG
    with pytest.raises(ValueError, match="33 px is not a multiple of patch 16 px"):
        CONFIG.with_image_size(33)
