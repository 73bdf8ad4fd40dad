"""Sizes of one CPM-Bee model."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

PUBLISHED_NAMES = {
    "vocab_size": "vocab_size",
    "dim_model": "dim_model",
    "dim_ff": "dim_ff",
    "num_layers": "num_layers",
    "num_heads": "num_heads",
    "dim_head": "dim_head",
    "position_bias_num_buckets": "num_position_buckets",
    "position_bias_num_segment_buckets": "num_segment_buckets",
    "position_bias_max_distance": "max_distance",
    "eps": "eps",
    "half": "half",
}


@dataclass(frozen=True)
class CPMBeeConfig:
    """Sizes and constants of SPEC §1.2 and §4. `half`: float16 weights go with float16 rotary tables.

    Raises:
        ValueError: a size that no model can have; the message names it.
    """

    vocab_size: int
    dim_model: int
    dim_ff: int
    num_layers: int
    num_heads: int
    dim_head: int
    num_position_buckets: int = 256
    num_segment_buckets: int = 256
    max_distance: int = 2048
    eps: float = 1e-6
    half: bool = True

    def __post_init__(self) -> None:
        for name in ("vocab_size", "dim_model", "dim_ff", "num_layers", "num_heads", "dim_head", "num_segment_buckets"):
            if getattr(self, name) < 1:
                raise ValueError(f"CPM-Bee's {name} is {getattr(self, name)}; it must be at least 1")
        if self.dim_model % 2:
            raise ValueError(f"CPM-Bee's dim_model is {self.dim_model}; the rotary embedding needs an even width")
        if self.num_position_buckets < 4:
            raise ValueError(f"CPM-Bee's num_position_buckets is {self.num_position_buckets}; it must be at least 4")
        if self.max_distance <= self.num_position_buckets // 4:
            raise ValueError(
                f"CPM-Bee's max_distance is {self.max_distance}; with {self.num_position_buckets} position "
                f"buckets it must be over {self.num_position_buckets // 4}"
            )

    @classmethod
    def from_published(cls, fields: Mapping[str, Any]) -> Self:
        """From the field names of the published `cpm-bee-10b.json`; fields of training alone are left aside.

        Raises:
            ValueError: a size is missing.
        """
        sizes = ("vocab_size", "dim_model", "dim_ff", "num_layers", "num_heads", "dim_head")
        missing = [name for name in sizes if name not in fields]
        if missing:
            raise ValueError(
                f"the CPM-Bee configuration lacks {', '.join(missing)}; it has {', '.join(sorted(fields))}"
            )
        return cls(**{ours: fields[published] for published, ours in PUBLISHED_NAMES.items() if published in fields})

    def to_published(self) -> dict[str, Any]:
        """The fields under their published names."""
        return {published: getattr(self, ours) for published, ours in PUBLISHED_NAMES.items()}
