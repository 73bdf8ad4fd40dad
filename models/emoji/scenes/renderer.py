"""From a scene to its picture, with drawings of some styles; and on which grounds each drawing can be seen."""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.datasets.examples import PixelArray
from models.emoji.drawings import DrawingError, Drawings, Style, shared_drawings
from models.emoji.names import EmojiName
from models.emoji.scenes.grounds import COLOURS, GroundColour
from models.emoji.scenes.scene import Ground, Scene

_VISIBLE_DISTANCE = 70.0  # of RGB in 0..255: a pixel that far from the ground is seen
_VISIBLE_SHARE = 0.3  # of a drawing's pixels
_DEFAULT_ORDER = ("white", "blue", "green", "black", "yellow", "orange", "red", "purple", "pink", "grey", "brown")
_THUMBNAIL_PX = 32
_NUM_NOISE_OFFSETS = 65536


class Renderer:
    """Draws scenes in some styles, in the order of preference. Raises DrawingError where one is not installed."""

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

    def render(self, scene: Scene, side_px: int) -> PixelArray:
        """The scene's picture, (S, S, 3) uint8."""
        canvas = Image.fromarray(_ground_pixels(scene.ground, side_px))
        for placed in scene.objects:
            image = _scaled(self.drawings[placed.style].drawing(placed.name.code), round(placed.size * side_px))
            if placed.angle_deg:
                image = image.rotate(placed.angle_deg, Image.Resampling.BILINEAR, expand=True)
            left = round(placed.centre[0] * side_px - image.width / 2)
            top = round(placed.centre[1] * side_px - image.height / 2)
            canvas.paste(image, (left, top), image)
        pixels = np.asarray(canvas)
        return _with_noise(pixels, scene.noise, scene.noise_seed) if scene.noise else pixels.copy()


def _visible_colours(drawing: Image.Image) -> tuple[GroundColour, ...]:
    pixels = np.asarray(drawing.resize((_THUMBNAIL_PX, _THUMBNAIL_PX), Image.Resampling.BOX), dtype=np.float32)
    opaque = pixels[pixels[..., 3] > 128, :3]  # (N, 3)
    centres = np.asarray([colour.centre for colour in COLOURS], dtype=np.float32)  # (C, 3)
    distances = np.linalg.norm(opaque[:, None] - centres, axis=-1)  # (N, C)
    is_shown = (distances > _VISIBLE_DISTANCE).mean(0) >= _VISIBLE_SHARE  # (C,)
    return tuple(colour for colour, shown in zip(COLOURS, is_shown, strict=True) if shown)


def _scaled(image: Image.Image, side_px: int) -> Image.Image:
    scale = side_px / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.BICUBIC)


@lru_cache(maxsize=4)
def _grid(side_px: int) -> NDArray[np.float32]:
    return np.linspace(-1, 1, side_px, dtype=np.float32)


def _ground_pixels(ground: Ground, side_px: int) -> PixelArray:
    start, end = np.asarray(ground.start, dtype=np.float32), np.asarray(ground.end, dtype=np.float32)
    if ground.start == ground.end:
        return np.full((side_px, side_px, 3), ground.start, dtype=np.uint8)
    direction = np.deg2rad(ground.direction_deg)
    across, down = float(np.cos(direction)), float(np.sin(direction))
    grid = _grid(side_px)
    share = 0.5 + (grid[None, :] * across + grid[:, None] * down) / (2 * (abs(across) + abs(down)))  # (S, S) in 0..1
    return (start + share[..., None] * (end - start) + 0.5).astype(np.uint8)


@lru_cache(maxsize=4)
def _noise_table(side_px: int) -> NDArray[np.float32]:
    """Standard normal numbers, more than a picture needs; drawing them anew would take most of a picture's time."""
    return np.random.default_rng(0).standard_normal(side_px * side_px * 3 + _NUM_NOISE_OFFSETS, dtype=np.float32)


def _with_noise(pixels: PixelArray, deviation: float, seed: int) -> PixelArray:
    offset = seed % _NUM_NOISE_OFFSETS
    noise = _noise_table(pixels.shape[0])[offset : offset + pixels.size].reshape(pixels.shape)
    return np.clip(pixels + noise * np.float32(deviation) + 0.5, 0, 255).astype(np.uint8)
