"""The grounds that emoji stand on: eleven named colours, each a range of hue, saturation and value.

The ranges keep clear of each other, so that a shade drawn from one is never rightly called by another's name.
"""

import colorsys
from dataclasses import dataclass

import numpy as np

RGB = tuple[int, int, int]


@dataclass(frozen=True)
class GroundColour:
    """A colour's names (Chinese with 色) and its shades; hue in degrees (may start below 0), the rest in 0..1."""

    en: str
    zh: str
    hue: tuple[float, float]
    saturation: tuple[float, float]
    value: tuple[float, float]
    centre: RGB

    def shade(self, rng: np.random.Generator) -> RGB:
        """A shade of this colour."""
        at = rng.random(3)
        (h0, h1), (s0, s1), (v0, v1) = self.hue, self.saturation, self.value
        hue = ((h0 + (h1 - h0) * at[0]) % 360) / 360
        red, green, blue = colorsys.hsv_to_rgb(hue, s0 + (s1 - s0) * at[1], v0 + (v1 - v0) * at[2])
        return round(red * 255), round(green * 255), round(blue * 255)


COLOURS = (
    GroundColour("red", "红色", (-8, 6), (0.78, 1.0), (0.68, 1.0), (220, 30, 38)),
    GroundColour("orange", "橙色", (24, 35), (0.82, 1.0), (0.93, 1.0), (250, 140, 20)),
    GroundColour("yellow", "黄色", (50, 60), (0.55, 1.0), (0.92, 1.0), (252, 222, 50)),
    GroundColour("green", "绿色", (90, 150), (0.45, 0.95), (0.42, 0.85), (52, 168, 66)),
    GroundColour("blue", "蓝色", (200, 238), (0.5, 1.0), (0.6, 1.0), (45, 110, 225)),
    GroundColour("purple", "紫色", (266, 290), (0.45, 0.9), (0.5, 0.85), (140, 60, 180)),
    GroundColour("pink", "粉色", (325, 350), (0.2, 0.5), (0.94, 1.0), (252, 168, 200)),
    GroundColour("brown", "棕色", (16, 32), (0.5, 0.8), (0.3, 0.52), (112, 66, 34)),
    GroundColour("grey", "灰色", (0, 360), (0.0, 0.04), (0.42, 0.68), (140, 140, 140)),
    GroundColour("white", "白色", (0, 360), (0.0, 0.03), (0.95, 1.0), (255, 255, 255)),
    GroundColour("black", "黑色", (0, 360), (0.0, 0.08), (0.0, 0.11), (10, 10, 10)),
)
COLOUR_NAMES = tuple(colour.en for colour in COLOURS)
