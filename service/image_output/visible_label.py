"""A label that people see: "AI生成" or "AI GENERATED" in the lower right corner, white on a dark box.

The few characters are drawn from strokes kept here, so no font is needed and a label looks the same everywhere.
All are capitals or fill their square: each one has the full height.
"""

import math
from functools import lru_cache
from typing import Literal

from PIL import Image, ImageDraw

from safety.text.language import Language

LabelLanguage = Literal["zh", "en"]

TEXTS: dict[LabelLanguage, str] = {"zh": "AI生成", "en": "AI GENERATED"}

_LEAST_SHARE = 1 / 20  # of the short side, GB 45438-2025 for pictures
_LEGIBLE_PX = 12  # smaller characters only where the label would be wider than the picture
_GAP = 0.24  # the lengths below are in heights of a character
_SPACE = 0.35
_PADDING = 0.4
_MARGIN = 0.3
_STROKE = 0.12
_BOX_OPACITY = 0.65  # on white a grey of 89: white on it has a contrast of 7 to 1
_OVERSAMPLING = 4

# Strokes as corner points in a box of height 1: x to the right, y down.
_Stroke = tuple[tuple[float, float], ...]
_GLYPHS: dict[str, tuple[float, tuple[_Stroke, ...]]] = {
    "A": (0.78, (((0, 1), (0.39, 0), (0.78, 1)), ((0.14, 0.66), (0.64, 0.66)))),
    "D": (0.7, (((0, 0), (0, 1), (0.4, 1), (0.62, 0.84), (0.7, 0.6), (0.7, 0.4), (0.62, 0.16), (0.4, 0), (0, 0)),)),
    "E": (0.56, (((0.56, 0), (0, 0), (0, 1), (0.56, 1)), ((0, 0.5), (0.48, 0.5)))),
    "G": (
        0.7,
        (
            (
                (0.68, 0.14),
                (0.46, 0),
                (0.26, 0),
                (0.07, 0.16),
                (0, 0.4),
                (0, 0.6),
                (0.07, 0.84),
                (0.26, 1),
                (0.46, 1),
                (0.7, 0.86),
                (0.7, 0.55),
                (0.42, 0.55),
            ),
        ),
    ),
    "I": (0, (((0, 0), (0, 1)),)),
    "N": (0.68, (((0, 1), (0, 0), (0.68, 1), (0.68, 0)),)),
    "R": (
        0.64,
        (((0, 1), (0, 0), (0.4, 0), (0.6, 0.1), (0.6, 0.42), (0.4, 0.52), (0, 0.52)), ((0.36, 0.52), (0.64, 1))),
    ),
    "T": (0.68, (((0, 0), (0.68, 0)), ((0.34, 0), (0.34, 1)))),
    "生": (
        1,
        (
            ((0.26, 0.04), (0.18, 0.26), (0.04, 0.46)),
            ((0.18, 0.26), (0.92, 0.26)),
            ((0.14, 0.6), (0.88, 0.6)),
            ((0.52, 0), (0.52, 1)),
            ((0, 1), (1, 1)),
        ),
    ),
    "成": (
        1,
        (
            ((0.1, 0.24), (0.98, 0.24)),
            ((0.1, 0.24), (0.1, 0.62), (0.07, 0.84), (0, 1)),
            ((0.1, 0.52), (0.4, 0.52), (0.38, 0.86), (0.24, 0.84)),
            ((0.56, 0), (0.58, 0.36), (0.65, 0.66), (0.78, 0.9), (0.94, 1), (1, 0.78)),
            ((0.9, 0.4), (0.8, 0.62), (0.66, 0.82), (0.46, 0.98)),
            ((0.74, 0), (0.88, 0.09)),
        ),
    ),
}


def label_language(language: Language) -> LabelLanguage:
    """What the writer of a prompt in `language` reads; Japanese readers know the two characters."""
    return "zh" if language in ("zh", "ja") else "en"


def draw(picture: Image.Image, language: LabelLanguage) -> None:
    """Draw the label into an RGB picture."""
    text = TEXTS[language]
    height_px = character_height_px(picture.size, text)
    letters = _letters(text, height_px)
    room_px = min(picture.width - letters.width, picture.height - letters.height)
    margin_px = min(round(_MARGIN * height_px), room_px // 2)
    left, top = picture.width - letters.width - margin_px, picture.height - letters.height - margin_px
    box = (left, top, left + letters.width, top + letters.height)
    ground = picture.crop(box)
    ground = Image.blend(ground, Image.new("RGB", ground.size), _BOX_OPACITY)
    ground.paste((255, 255, 255), mask=letters)
    picture.paste(ground, box)


def character_height_px(size_px: tuple[int, int], text: str) -> int:
    """At least a twentieth of the short side, which always fits; more where that is too small to read."""
    width_px, height_px = size_px
    least_px = math.ceil(_LEAST_SHARE * min(size_px))
    fitting_px = math.floor(min((width_px - 1) / (_width(text) + 2 * _PADDING), (height_px - 1) / (1 + 2 * _PADDING)))
    return max(least_px, min(_LEGIBLE_PX, fitting_px))


@lru_cache(maxsize=32)
def _letters(text: str, height_px: int) -> Image.Image:
    """The box's mode L mask: 255 where a letter is, 0 around."""
    scale = height_px * _OVERSAMPLING
    stroke_px = max(1, round(_STROKE * scale))
    padding_px = round(_PADDING * height_px)
    width_px = math.ceil(_width(text) * height_px)
    large = Image.new("L", (width_px * _OVERSAMPLING, scale))
    pen = ImageDraw.Draw(large)
    # Strokes have a width: corner points lie half of it inside the box, so that ink fills the height exactly.
    radius = stroke_px / 2
    x = radius
    for character in text:
        if character == " ":
            x += _SPACE * scale
            continue
        width, strokes = _GLYPHS[character]
        for stroke in strokes:
            points = [(x + across * scale, radius + down * (scale - stroke_px)) for across, down in stroke]
            pen.line(points, fill=255, width=stroke_px)
            for across, down in points:  # round ends and corners
                pen.ellipse((across - radius, down - radius, across + radius, down + radius), fill=255)
        x += width * scale + stroke_px + _GAP * scale
    mask = Image.new("L", (width_px + 2 * padding_px, height_px + 2 * padding_px))
    mask.paste(large.resize((width_px, height_px), Image.Resampling.BOX), (padding_px, padding_px))
    return mask


def _width(text: str) -> float:
    """Of the ink, in heights of a character."""
    advances = [_SPACE if one == " " else _GLYPHS[one][0] + _STROKE + _GAP for one in text]
    return sum(advances) - _GAP
