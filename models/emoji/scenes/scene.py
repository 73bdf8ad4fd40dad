"""Scenes of emoji on a coloured ground: what is where."""

from dataclasses import dataclass
from typing import Literal

from models.emoji.drawings import Style
from models.emoji.names import EmojiName
from models.emoji.scenes.grounds import RGB, GroundColour

Layout = Literal["single", "pair", "count"]
Place = Literal["centre", "left", "right"]


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
