"""Scenes of emoji on a coloured ground: what is where, and the picture of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.emoji.drawings import Drawings, Style
from models.emoji.grounds import COLOURS, RGB, GroundColour
from models.emoji.names import EmojiName
from models.finetune.examples import Pixels

T = TypeVar("T")
Layout = Literal["single", "pair", "count"]
Place = Literal["centre", "left", "right"]

_SINGLE_SIZES = (0.40, 0.92)
_EASY_SIZES = (0.72, 0.92)
_PAIR_SIZES = (0.34, 0.48)
_COUNT_SIZES = (0.26, 0.42)
_COUNT_GAP = 1.04  # sides of two neighbours' boxes keep this times their half sum apart
_PAINT_SIZES: Mapping[Place, float] = {"centre": 0.78, "left": 0.48, "right": 0.48}
_PAINT_CENTRES: Mapping[Place, float] = {"centre": 0.5, "left": 0.26, "right": 0.74}
_INSIDE = 0.95  # share of a box's side that stays inside the picture
_MAX_ANGLE_DEG = 12.0
_MAX_NOISE = 9.0  # standard deviation, of 255
MAX_COUNT = 4

_VISIBLE_DISTANCE = 70.0  # of RGB in 0..255: a pixel that far from the ground is seen
_VISIBLE_SHARE = 0.3  # of a drawing's pixels
_DEFAULT_ORDER = ("white", "blue", "green", "black", "yellow", "orange", "red", "purple", "pink", "grey", "brown")


@dataclass(frozen=True)
class Placed:
    """One drawing in a scene; centre and size (the longer side of its box) as shares of the picture's side."""

    name: EmojiName
    style: Style
    centre: tuple[float, float]  # x, y
    size: float
    angle_deg: float


@dataclass(frozen=True)
class Ground:
    """A plain colour, or a gradient between two shades of it."""

    colour: GroundColour
    start: RGB
    end: RGB
    direction_deg: float = 0.0


@dataclass(frozen=True)
class Scene:
    """One, or two different emoji from left to right, or up to four of a kind, on a ground."""

    layout: Layout
    ground: Ground
    objects: tuple[Placed, ...]
    noise: float = 0.0  # standard deviation, of 255
    noise_seed: int = 0


@dataclass(frozen=True)
class Studio:
    """The drawings that scenes are made of, by style."""

    drawings: Mapping[Style, Drawings]

    @classmethod
    def of_styles(cls, styles: Sequence[Style]) -> "Studio":
        """Drawings of these styles. Raises DrawingError where one is not installed."""
        return cls({style: Drawings(style) for style in styles})

    def styles_of(self, name: EmojiName) -> list[Style]:
        """The styles that have this emoji, at least one. Raises DrawingError."""
        styles = [style for style, drawings in self.drawings.items() if drawings.draws(name.code)]
        if not styles:
            next(iter(self.drawings.values())).drawing(name.code)
        return styles


def draw_scene(
    rng: np.random.Generator, studio: Studio, names: Sequence[EmojiName], first: EmojiName, layout: Layout
) -> Scene:
    """A scene with `first` in it; the second emoji of a pair is any other of `names`."""
    if layout == "pair":
        return _pair(rng, studio, names, first)
    style = _choice(rng, studio.styles_of(first))
    if layout == "count":
        objects = _several(rng, first, style, 1 + int(rng.integers(MAX_COUNT)))
    else:
        size = rng.uniform(*_SINGLE_SIZES)
        objects = (Placed(first, style, _inside(rng, size), size, _angle(rng)),)
    return Scene(layout, _ground(rng, studio, objects), objects, *_noise(rng))


def draw_easy_scene(rng: np.random.Generator, studio: Studio, name: EmojiName) -> Scene:
    """One large emoji on a plain ground, to begin with."""
    size = rng.uniform(*_EASY_SIZES)
    placed = Placed(name, _choice(rng, studio.styles_of(name)), _inside(rng, size), size, 0.0)
    colour = _visible_colour(rng, studio, (placed,))
    shade = colour.shade(rng)
    return Scene("single", Ground(colour, shade, shade), (placed,))


def paint_scene(studio: Studio, name: EmojiName, colour: GroundColour | None, place: Place) -> Scene:
    """The one picture that a caption means: flat ground, upright, no noise; without a colour white if that shows."""
    style = studio.styles_of(name)[0]
    placed = Placed(name, style, (_PAINT_CENTRES[place], 0.5), _PAINT_SIZES[place], 0.0)
    colour = colour or default_colour(studio, placed)
    return Scene("single", Ground(colour, colour.centre, colour.centre), (placed,))


def default_colour(studio: Studio, placed: Placed) -> GroundColour:
    """White, or for a drawing that is lost on white the first colour that shows it."""
    ordered = sorted(COLOURS, key=lambda colour: _DEFAULT_ORDER.index(colour.en))
    return next(colour for colour in ordered if is_visible(studio, placed, colour))


def is_visible(studio: Studio, placed: Placed, colour: GroundColour) -> bool:
    """Whether enough of the drawing differs from the colour."""
    return _visible_shares(studio.drawings[placed.style], placed.name.code)[colour.en] >= _VISIBLE_SHARE


def render(studio: Studio, scene: Scene, side_px: int) -> Pixels:
    """The scene's picture, (S, S, 3) uint8."""
    canvas = Image.fromarray(_ground_pixels(scene.ground, side_px))
    for placed in scene.objects:
        image = _scaled(studio.drawings[placed.style].drawing(placed.name.code), round(placed.size * side_px))
        if placed.angle_deg:
            image = image.rotate(placed.angle_deg, Image.Resampling.BILINEAR, expand=True)
        left = round(placed.centre[0] * side_px - image.width / 2)
        top = round(placed.centre[1] * side_px - image.height / 2)
        canvas.paste(image, (left, top), image)
    pixels = np.asarray(canvas)
    return _with_noise(pixels, scene.noise, scene.noise_seed) if scene.noise else pixels.copy()


def _pair(rng: np.random.Generator, studio: Studio, names: Sequence[EmojiName], first: EmojiName) -> Scene:
    second = first
    while second == first:
        second = names[int(rng.integers(len(names)))]
    ordered = (first, second) if rng.random() < 0.5 else (second, first)
    objects = []
    for name, middle in zip(ordered, (0.26, 0.74), strict=True):
        size = rng.uniform(*_PAIR_SIZES)
        slack = 0.24 - size / 2 * _INSIDE
        centre = (middle + rng.uniform(-slack, slack), rng.uniform(size / 2 * _INSIDE, 1 - size / 2 * _INSIDE))
        objects.append(Placed(name, _choice(rng, studio.styles_of(name)), centre, size, _angle(rng)))
    return Scene("pair", _ground(rng, studio, tuple(objects)), tuple(objects), *_noise(rng))


def _several(rng: np.random.Generator, name: EmojiName, style: Style, count: int) -> tuple[Placed, ...]:
    """`count` of one emoji whose boxes do not overlap: placed at random, again from the start where none fits."""
    while True:
        placed: list[Placed] = []
        for _ in range(24):
            size = rng.uniform(*_COUNT_SIZES)
            centre = _inside(rng, size)
            if all(_apart(centre, size, other) for other in placed):
                placed.append(Placed(name, style, centre, size, _angle(rng)))
                if len(placed) == count:
                    return tuple(placed)


def _apart(centre: tuple[float, float], size: float, other: Placed) -> bool:
    reach = (size + other.size) / 2 * _COUNT_GAP
    return max(abs(centre[0] - other.centre[0]), abs(centre[1] - other.centre[1])) >= reach


def _inside(rng: np.random.Generator, size: float) -> tuple[float, float]:
    margin = size / 2 * _INSIDE
    x, y = rng.uniform(margin, 1 - margin, 2)
    return float(x), float(y)


def _angle(rng: np.random.Generator) -> float:
    return float(rng.uniform(-_MAX_ANGLE_DEG, _MAX_ANGLE_DEG))


def _noise(rng: np.random.Generator) -> tuple[float, int]:
    if rng.random() < 0.5:
        return 0.0, 0
    return float(rng.uniform(1.0, _MAX_NOISE)), int(rng.integers(2**31))


def _ground(rng: np.random.Generator, studio: Studio, objects: tuple[Placed, ...]) -> Ground:
    colour = _visible_colour(rng, studio, objects)
    start = colour.shade(rng)
    if rng.random() < 0.5:
        return Ground(colour, start, start)
    return Ground(colour, start, colour.shade(rng), float(rng.uniform(0, 360)))


def _visible_colour(rng: np.random.Generator, studio: Studio, objects: tuple[Placed, ...]) -> GroundColour:
    """Any colour that shows all the objects; any at all where none does."""
    kinds = {(placed.name, placed.style): placed for placed in objects}.values()
    shown = [colour for colour in COLOURS if all(is_visible(studio, placed, colour) for placed in kinds)]
    return _choice(rng, shown or COLOURS)


@cache
def _visible_shares(drawings: Drawings, code: str) -> dict[str, float]:
    """For each colour, the share of the drawing's pixels that differ from it clearly."""
    pixels = np.asarray(drawings.drawing(code).resize((32, 32), Image.Resampling.BOX), dtype=np.float32)
    opaque = pixels[pixels[..., 3] > 128, :3]
    return {
        colour.en: float((np.linalg.norm(opaque - np.float32(colour.centre), axis=1) > _VISIBLE_DISTANCE).mean())
        for colour in COLOURS
    }


def _scaled(image: Image.Image, side_px: int) -> Image.Image:
    scale = side_px / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.BICUBIC)


@lru_cache(maxsize=4)
def _grid(side_px: int) -> NDArray[np.float32]:
    return np.linspace(-1, 1, side_px, dtype=np.float32)


def _ground_pixels(ground: Ground, side_px: int) -> Pixels:
    start, end = np.float32(ground.start), np.float32(ground.end)
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
    return np.random.default_rng(0).standard_normal(side_px * side_px * 3 + 65536, dtype=np.float32)


def _with_noise(pixels: Pixels, deviation: float, seed: int) -> Pixels:
    offset = seed % 65536
    noise = _noise_table(pixels.shape[0])[offset : offset + pixels.size].reshape(pixels.shape)
    return np.clip(pixels + noise * np.float32(deviation) + 0.5, 0, 255).astype(np.uint8)


def _choice(rng: np.random.Generator, items: Sequence[T]) -> T:
    return items[int(rng.integers(len(items)))]
