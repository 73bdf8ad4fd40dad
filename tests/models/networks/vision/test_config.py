"""Sizes of the vision tower."""

import pytest

from models.networks.vision.config import VisionConfig


def test_the_defaults_are_the_published_sizes() -> None:
    config = VisionConfig()
    assert (config.grid, config.num_image_tokens, config.num_image_positions) == (14, 197, 199)
    assert config.width // config.num_heads == 64


def test_published_fields_come_back() -> None:
    config = VisionConfig(image_size_px=56, patch_size_px=14, width=48, num_heads=4, dim_ff=96, num_layers=2)
    assert VisionConfig.from_published(config.to_published()) == config


@pytest.mark.parametrize(
    ("sizes", "message"),
    [({"image_size_px": 230}, "image side 230 px"), ({"num_heads": 7}, "vision width 1024 is not a multiple of 7")],
)
def test_sizes_that_cannot_be_are_refused(sizes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VisionConfig(**sizes)  # type: ignore[arg-type]
