"""Composing scenes: at random, and the one that a caption means."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

from models.emoji.drawings import Style
from models.emoji.names import EmojiName
from models.emoji.scenes.grounds import COLOURS, GroundColour
from models.emoji.scenes.renderer import Renderer
from models.emoji.scenes.scene import Ground, Layout, Place, Placed, Scene

T = TypeVar("T")

_SINGLE_SIZES = (0.55, 0.92)
_PAIR_SIZES = (0.42, 0.48)
_PAIR_REACH = 0.24  # from the middle of its half to where a drawing of a pair may extend
_PAIR_RISE = 0.12  # of its middle above or below that of the picture
_COUNT_SIZES = (0.38, 0.46)
_COUNT_REACH = 0.245  # from the middle of its quarter of the picture, as in a pair
_PAINT_SIZES: Mapping[Place, float] = {"centre": 0.78, "left": 0.48, "right": 0.48}
_PAINT_CENTRES: Mapping[Place, float] = {"centre": 0.5, "left": 0.26, "right": 0.74}
_INSIDE = 0.95  # share of a box's side that stays inside the picture
_MAX_ANGLE_DEG = 10.0
_MAX_NOISE = 6.0  # standard deviation, of 255
_QUARTERS = ((0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75))  # their middles
MAX_COUNT = len(_QUARTERS)


def draw_scene(
    rng: np.random.Generator, renderer: Renderer, names: Sequence[EmojiName], first: EmojiName, layout: Layout
) -> Scene:
    """A scene with `first` in it; the second emoji of a pair is any other of `names`."""
    if layout == "pair":
        return _pair(rng, renderer, names, first)
    style = _choice(rng, renderer.styles_of(first))
    if layout == "count":
        objects = _several(rng, first, style, 1 + int(rng.integers(MAX_COUNT)))
    else:
        size = rng.uniform(*_SINGLE_SIZES)
        objects = (Placed(first, style, _inside(rng, size), size, _angle(rng)),)
    return Scene(layout, _ground(rng, renderer, objects), objects, *_noise(rng))


def paint_scene(renderer: Renderer, name: EmojiName, colour: GroundColour | None, place: Place) -> Scene:
    """The one picture that a caption means: flat ground, upright, no noise; without a colour white if that shows."""
    style = renderer.styles_of(name)[0]
    placed = Placed(name, style, (_PAINT_CENTRES[place], 0.5), _PAINT_SIZES[place], 0.0)
    colour = colour or renderer.default_colour(style, name)
    return Scene("single", Ground(colour, colour.centre, colour.centre), (placed,))


def _pair(rng: np.random.Generator, renderer: Renderer, names: Sequence[EmojiName], first: EmojiName) -> Scene:
    second = first
    while second == first:
        second = names[int(rng.integers(len(names)))]
    ordered = (first, second) if rng.random() < 0.5 else (second, first)
    objects = []
    for name, middle in zip(ordered, (0.25, 0.75), strict=True):
        size = rng.uniform(*_PAIR_SIZES)
        slack = _PAIR_REACH - size / 2
        centre = (middle + rng.uniform(-slack, slack), 0.5 + rng.uniform(-_PAIR_RISE, _PAIR_RISE))
        objects.append(Placed(name, _choice(rng, renderer.styles_of(name)), centre, size, _angle(rng)))
    return Scene("pair", _ground(rng, renderer, tuple(objects)), tuple(objects), *_noise(rng))


def _several(rng: np.random.Generator, name: EmojiName, style: Style, count: int) -> tuple[Placed, ...]:
    """`count` of one emoji, each somewhere in its own quarter of the picture."""
    placed = []
    for quarter in rng.permutation(MAX_COUNT)[:count]:
        size = rng.uniform(*_COUNT_SIZES)
        slack = _COUNT_REACH - size / 2
        x, y = (middle + rng.uniform(-slack, slack) for middle in _QUARTERS[quarter])
        placed.append(Placed(name, style, (x, y), size, _angle(rng)))
    return tuple(placed)


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


def _ground(rng: np.random.Generator, renderer: Renderer, objects: tuple[Placed, ...]) -> Ground:
    colour = _visible_colour(rng, renderer, objects)
    start = colour.shade(rng)
    if rng.random() < 0.5:
        return Ground(colour, start, start)
    return Ground(colour, start, colour.shade(rng), float(rng.uniform(0, 360)))


def _visible_colour(rng: np.random.Generator, renderer: Renderer, objects: tuple[Placed, ...]) -> GroundColour:
    """Any colour that shows all the objects; any at all where none does."""
    kinds = {(placed.style, placed.name) for placed in objects}
    shown = [colour for colour in COLOURS if all(colour in renderer.visible_colours(*kind) for kind in kinds)]
    return _choice(rng, shown or COLOURS)


def _choice(rng: np.random.Generator, items: Sequence[T]) -> T:
    return items[int(rng.integers(len(items)))]
