"""The names whose drawings a small model can tell apart; `python -m models.emoji.lookalikes` prints recipe/names.txt.

They are those that people have known longest, of Emoji 1.0 and before; of the two drawings that are most alike one is
left out, again and again. How alike two are is the squared difference of their thumbnails by what both show, in the
more alike of the two styles of training.
"""
# ruff: noqa: T201 (a command line speaks by print)

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.emoji.drawings import Drawings, Style, shared_drawings
from models.emoji.names import EmojiName, emoji_names

NUM_NAMES = 512
_STYLES: tuple[Style, ...] = ("twemoji", "noto")
NEWEST_VERSION = 1.0
_THUMBNAIL_PX = 16


def distinct_names(names: Sequence[EmojiName], styles: Sequence[Drawings], count: int) -> list[EmojiName]:
    """`count` of the names, in their order; of two lookalikes the one with the longer names goes.

    Raises:
        ValueError: there are fewer names.
    """
    if not 0 < count <= len(names):
        raise ValueError(f"cannot choose {count} of {len(names)} names")
    distances = np.min([_distances([_thumbnail(style, name) for name in names]) for style in styles], axis=0)
    kept = np.ones(len(names), dtype=bool)
    for _ in range(len(names) - count):
        pair = np.unravel_index(np.argmin(distances), distances.shape)
        leaving = max((int(place) for place in pair), key=lambda place: (_length(names[place]), place))
        kept[leaving] = False
        distances[leaving, :] = distances[:, leaving] = np.inf
    return [name for name, is_kept in zip(names, kept, strict=True) if is_kept]


def _thumbnail(style: Drawings, name: EmojiName) -> NDArray[np.float32] | None:
    if not style.draws(name.code):
        return None
    drawing = style.drawing(name.code).convert("RGBa")  # nothing is black without its opacity
    side = max(drawing.size)
    square = Image.new("RGBa", (side, side))
    square.paste(drawing, ((side - drawing.width) // 2, (side - drawing.height) // 2))
    small = square.resize((_THUMBNAIL_PX, _THUMBNAIL_PX), Image.Resampling.BOX)
    values: NDArray[np.float32] = np.asarray(small, dtype=np.float32).ravel() / np.float32(255)
    return values


def _distances(thumbnails: Sequence[NDArray[np.float32] | None]) -> NDArray[np.float32]:
    """(N, N) squared differences by the sum of both squares; infinite to itself and to what is not drawn."""
    count = len(thumbnails)
    distances = np.full((count, count), np.inf, dtype=np.float32)
    for place, one in enumerate(thumbnails):
        for other_place, other in enumerate(thumbnails[:place]):
            if one is not None and other is not None:
                distances[place, other_place] = np.square(one - other).sum() / (one @ one + other @ other)
    return distances


def _length(name: EmojiName) -> int:
    return len(name.en) + len(name.zh)


def main() -> None:
    familiar = [name for name in emoji_names() if version(name) <= NEWEST_VERSION]
    for name in distinct_names(familiar, [shared_drawings(style) for style in _STYLES], NUM_NAMES):
        print(name.code, name.en, name.zh, sep="\t")


def version(name: EmojiName) -> float:
    """Of the Emoji standard that brought it."""
    import emoji

    return float(emoji.EMOJI_DATA["".join(chr(int(point, 16)) for point in name.code.split("-"))]["E"])


if __name__ == "__main__":
    main()
