"""What scenes are made of: the drawings by style, and on which grounds each of them can be seen."""

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from models.emoji.drawings import DrawingError, Drawings, Style, shared_drawings
from models.emoji.names import EmojiName
from models.emoji.scenes.grounds import COLOURS, GroundColour

_VISIBLE_DISTANCE = 70.0  # of RGB in 0..255: a pixel that far from the ground is seen
_VISIBLE_SHARE = 0.3  # of a drawing's pixels
_DEFAULT_ORDER = ("white", "blue", "green", "black", "yellow", "orange", "red", "purple", "pink", "grey", "brown")
_THUMBNAIL_PX = 32


class Studio:
    """Drawings of some styles, in the order of preference. Raises DrawingError where one is not installed."""

    def __init__(self, styles: Sequence[Style]) -> None:
        self.drawings: Mapping[Style, Drawings] = {style: shared_drawings(style) for style in styles}
        self._visible: dict[tuple[Style, str], tuple[GroundColour, ...]] = {}

    def styles_of(self, name: EmojiName) -> list[Style]:
        """The styles that have this emoji, at least one. Raises DrawingError."""
        styles = [style for style, drawings in self.drawings.items() if drawings.draws(name.code)]
        if not styles:
            raise DrawingError(f"none of the styles {list(self.drawings)} has a picture of {name.en!r} ({name.code})")
        return styles

    def visible_colours(self, style: Style, name: EmojiName) -> tuple[GroundColour, ...]:
        """The colours on which enough of the drawing shows; all of them for one that is lost everywhere."""
        key = style, name.code
        if key not in self._visible:
            self._visible[key] = _visible_colours(self.drawings[style].drawing(name.code)) or COLOURS
        return self._visible[key]

    def default_colour(self, style: Style, name: EmojiName) -> GroundColour:
        """White, or for a drawing that is lost on white the first colour that shows it."""
        return min(self.visible_colours(style, name), key=lambda colour: _DEFAULT_ORDER.index(colour.en))


def _visible_colours(drawing: Image.Image) -> tuple[GroundColour, ...]:
    pixels = np.asarray(drawing.resize((_THUMBNAIL_PX, _THUMBNAIL_PX), Image.Resampling.BOX), dtype=np.float32)
    opaque = pixels[pixels[..., 3] > 128, :3]  # (N, 3)
    centres = np.asarray([colour.centre for colour in COLOURS], dtype=np.float32)  # (C, 3)
    distances = np.linalg.norm(opaque[:, None] - centres, axis=-1)  # (N, C)
    is_shown = (distances > _VISIBLE_DISTANCE).mean(0) >= _VISIBLE_SHARE  # (C,)
    return tuple(colour for colour, shown in zip(COLOURS, is_shown, strict=True) if shown)
