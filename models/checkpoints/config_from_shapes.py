"""Sizes of a model, read from the shapes of its parameters (by our names).

A size shows in many shapes; the value most of them agree on is taken, so that one mis-shaped parameter is named as
such instead of moving the size.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from models.networks.chat.config import ChatConfig
from models.networks.cpm_bee.config import CPMBeeConfig
from models.networks.paint.config import SD21_BASE_UNET, PaintConfig
from models.networks.vision.config import NUM_KEPT_POSITIONS, VisionConfig

Shapes = Mapping[str, tuple[int, ...]]

PUBLISHED_LLM = CPMBeeConfig(vocab_size=86583, dim_model=4096, dim_ff=10240, num_layers=48, num_heads=32, dim_head=128)
PUBLISHED_CHAT = ChatConfig(llm=PUBLISHED_LLM, vision=VisionConfig())
PUBLISHED_PAINT = PaintConfig(llm=PUBLISHED_LLM, unet=SD21_BASE_UNET)

# A tower's head count shows in no shape: published heads are 64 wide (SPEC §5).
VISION_HEAD_WIDTH = 64


def llm_config(shapes: Shapes) -> CPMBeeConfig:
    """Sizes of the language model.

    One of published width and depth is held to the published sizes, whatever its vocabulary. Elsewhere the position
    table's columns tell the heads, and its rows are split evenly into distance and segment buckets, as published.

    Raises:
        ValueError: a parameter that tells a size is absent, or sizes that cannot be.
    """
    vocab_size = _agreed(shapes, (r"llm\.embedding\.weight", 0))
    num_layers = _num_layers(shapes, "llm")
    dim_model = _agreed(
        shapes,
        (r"llm\.output_norm\.weight", 0),
        (r"llm\.layers\.\d+\.(attention|feed_forward)_norm\.weight", 0),
        (r"llm\.embedding\.weight", 1),
    )
    if (dim_model, num_layers) == (PUBLISHED_LLM.dim_model, PUBLISHED_LLM.num_layers):
        return replace(PUBLISHED_LLM, vocab_size=vocab_size)
    num_heads = _agreed(shapes, (r"llm\.position_bias\.weight", 1))
    attention_width = _agreed(
        shapes,
        (r"llm\.layers\.\d+\.attention\.(query|key|value)\.weight", 0),
        (r"llm\.layers\.\d+\.attention\.output\.weight", 1),
    )
    if attention_width % num_heads:
        raise ValueError(f"attention width {attention_width} is not a multiple of {num_heads} heads")
    buckets = _agreed(shapes, (r"llm\.position_bias\.weight", 0))
    return CPMBeeConfig(
        vocab_size=vocab_size,
        dim_model=dim_model,
        dim_ff=_agreed(
            shapes,
            (r"llm\.layers\.\d+\.feed_forward\.(gate|up)\.weight", 0),
            (r"llm\.layers\.\d+\.feed_forward\.down\.weight", 1),
        ),
        num_layers=num_layers,
        num_heads=num_heads,
        dim_head=attention_width // num_heads,
        num_position_buckets=buckets // 2,
        num_segment_buckets=buckets - buckets // 2,
    )


def chat_config(shapes: Shapes) -> ChatConfig:
    """Sizes of the language model, the vision tower and its query tokens. Raises ValueError as `llm_config`."""
    return ChatConfig(
        llm=llm_config(shapes),
        vision=_vision_config(shapes),
        num_query_tokens=_agreed(shapes, (r"query_tokens", 0)),
    )


def _vision_config(shapes: Shapes) -> VisionConfig:
    patch_size_px = _agreed(shapes, (r"vision_encoder\.patch_embedding\.weight", 2))
    rows = _agreed(shapes, (r"vision_encoder\.image_positions", 0))
    grid = round(max(rows - NUM_KEPT_POSITIONS, 0) ** 0.5)
    if grid**2 != rows - NUM_KEPT_POSITIONS:
        raise ValueError(f"an image position table of {rows} rows fits no square picture")
    width = _agreed(
        shapes,
        (r"vision_encoder\.(image|query)_norm\.weight", 0),
        (r"vision_encoder\.layers\.\d+\.\w+\.(attention|feed_forward)_norm\.weight", 0),
        (r"vision_encoder\.class_token", 2),
    )
    if width % VISION_HEAD_WIDTH:
        raise ValueError(
            f"the vision tower is {width} wide, no multiple of the published head width {VISION_HEAD_WIDTH}; "
            "its number of heads must come from a configuration"
        )
    return VisionConfig(
        image_size_px=grid * patch_size_px,
        patch_size_px=patch_size_px,
        width=width,
        num_heads=width // VISION_HEAD_WIDTH,
        dim_ff=_agreed(shapes, (r"vision_encoder\.layers\.\d+\.\w+\.feed_forward\.(up|norm)\.(weight|bias)", 0)),
        num_layers=_num_layers(shapes, "vision_encoder"),
        num_query_positions=_agreed(shapes, (r"vision_encoder\.query_positions", 0)),
    )


def _agreed(shapes: Shapes, *places: tuple[str, int]) -> int:
    """The size that most of the named axes have; each place is a pattern of names and an axis."""
    votes: Counter[int] = Counter()
    for pattern, axis in places:
        compiled = re.compile(pattern)
        votes.update(shape[axis] for name, shape in shapes.items() if len(shape) > axis and compiled.fullmatch(name))
    if not votes:
        raise ValueError(f"no parameter tells a size: {' and '.join(pattern for pattern, _ in places)}")
    return votes.most_common(1)[0][0]


def _num_layers(shapes: Shapes, prefix: str) -> int:
    numbers = [int(found[1]) for name in shapes if (found := re.match(rf"{prefix}\.layers\.(\d+)\.", name))]
    return max(numbers, default=-1) + 1
