"""Sizes of VisCPM-Chat."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from models.networks.cpm_bee.config import CPMBeeConfig
from models.networks.vision.config import POSITION_OFFSET, VisionConfig


@dataclass(frozen=True)
class ChatConfig:
    """The language model, the vision tower, and the query tokens that carry a picture from one to the other."""

    llm: CPMBeeConfig
    vision: VisionConfig
    num_query_tokens: int = 64

    def __post_init__(self) -> None:
        room = self.vision.num_query_positions - POSITION_OFFSET
        if not 1 <= self.num_query_tokens <= room:
            raise ValueError(f"{self.num_query_tokens} query tokens; the vision tower has positions for 1 to {room}")

    @property
    def image_size_px(self) -> int:
        """Side of the square picture the model takes."""
        return self.vision.image_size_px

    def with_image_size(self, side_px: int) -> Self:
        """The same sizes for pictures of another side."""
        return replace(self, vision=replace(self.vision, image_size_px=side_px))

    @classmethod
    def from_published(cls, fields: Mapping[str, Any]) -> Self:
        """From `llm`, `vision` and `query_num` of a configuration file.

        Raises:
            KeyError: a field is missing.
            ValueError: sizes that cannot be.
        """
        return cls(
            llm=CPMBeeConfig.from_published(fields["llm"]),
            vision=VisionConfig.from_published(fields["vision"]),
            num_query_tokens=fields["query_num"],
        )

    def to_published(self) -> dict[str, Any]:
        return {
            "llm": self.llm.to_published(),
            "vision": self.vision.to_published(),
            "query_num": self.num_query_tokens,
        }
