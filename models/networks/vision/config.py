"""Sizes of the vision tower."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Rows 0 and 1 of both position tables are unused, and one more row belongs to the class token (SPEC §5).
POSITION_OFFSET = 2
NUM_KEPT_POSITIONS = POSITION_OFFSET + 1


@dataclass(frozen=True)
class VisionConfig:
    """BEiT-3 with an image expert and a query expert in every layer (SPEC §5); the defaults are the published sizes."""

    image_size_px: int = 224
    patch_size_px: int = 16
    width: int = 1024
    num_heads: int = 16
    dim_ff: int = 4096
    num_layers: int = 24
    num_query_positions: int = 1024  # rows of the query tokens' table, the unused two included
    eps: float = 1e-5

    def __post_init__(self) -> None:
        if self.image_size_px % self.patch_size_px:
            raise ValueError(f"image side {self.image_size_px} px is not a multiple of patch {self.patch_size_px} px")
        if self.width % self.num_heads:
            raise ValueError(f"vision width {self.width} is not a multiple of {self.num_heads} heads")

    @property
    def grid(self) -> int:
        """Patches along one side."""
        return self.image_size_px // self.patch_size_px

    @property
    def num_image_tokens(self) -> int:
        """Class token and patches."""
        return 1 + self.grid**2

    @property
    def num_image_positions(self) -> int:
        return NUM_KEPT_POSITIONS + self.grid**2

    @classmethod
    def from_published(cls, fields: Mapping[str, Any]) -> "VisionConfig":
        """From the field names of a configuration file. Raises KeyError on a missing one."""
        return cls(
            image_size_px=fields["img_size"],
            patch_size_px=fields["patch_size"],
            width=fields["embed_dim"],
            num_heads=fields["heads"],
            dim_ff=fields["ffn_dim"],
            num_layers=fields["layers"],
            num_query_positions=fields["max_source_positions"],
            eps=fields["layernorm_eps"],
        )

    def to_published(self) -> dict[str, Any]:
        return {
            "img_size": self.image_size_px,
            "patch_size": self.patch_size_px,
            "embed_dim": self.width,
            "heads": self.num_heads,
            "ffn_dim": self.dim_ff,
            "layers": self.num_layers,
            "max_source_positions": self.num_query_positions,
            "layernorm_eps": self.eps,
        }
