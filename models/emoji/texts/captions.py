"""Captions for painting: a name, and where it says so the colour of the ground and the place."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from models.emoji.names import EmojiName
from models.emoji.scenes.grounds import COLOURS, GroundColour
from models.emoji.scenes.scene import Place
from models.emoji.texts.english import article, noun_phrase

Tongue = Literal["en", "zh"]

# `{n}` is the name, `{a_n}` the name with its article, `{on}` "on a blue background", `{side}` "on the left".
_ENGLISH: Mapping[tuple[bool, bool], tuple[str, ...]] = {
    (False, False): ("{n}", "{n}", "{a_n}", "{a_n}", "a picture of {a_n}", "paint {a_n}", "draw {a_n}"),
    (True, False): ("{n} {on}", "{a_n} {on}", "{a_n}, {colour} background", "a picture of {a_n} {on}"),
    (False, True): ("{n} {side}", "{a_n} {side}", "a picture of {a_n} {side}"),
    (True, True): ("{n} {side} {on}", "{a_n} {side} {on}", "{a_n} {side}, {colour} background"),
}
# `{n}` is the name, `{a_n}` the name with 一个, `{colour}` 蓝色, `{side}` 左边.
_CHINESE: Mapping[tuple[bool, bool], tuple[str, ...]] = {
    (False, False): ("{n}", "{n}", "{n}", "{a_n}", "画{a_n}", "{n}的图片"),
    (True, False): ("{colour}背景上的{n}", "{colour}背景上的{a_n}", "{n}，{colour}背景"),
    (False, True): ("{side}的{n}", "{side}{a_n}", "{n}在{side}"),
    (True, True): ("{colour}背景{side}的{n}", "{colour}背景上{side}的{n}", "{n}在{side}，{colour}背景"),
}
CAPTION_TEMPLATES = tuple(
    template for table in (_ENGLISH, _CHINESE) for templates in table.values() for template in templates
)
_FULL_STOP_SHARE = 0.15
_COLOUR_SHARE = 0.3
_PLACE_SHARE = 0.12
_CHINESE_WITHOUT_MEASURE = ("一", "多", "有", "无")


@dataclass(frozen=True)
class Subject:
    """What is to be painted: an emoji, its ground (None: not said), its place."""

    name: EmojiName
    colour: GroundColour | None
    place: Place


def draw_subject(rng: np.random.Generator, name: EmojiName, colours: tuple[GroundColour, ...] = COLOURS) -> Subject:
    """A subject for a name, most often the name alone; a colour is one of `colours`."""
    colour = colours[int(rng.integers(len(colours)))] if rng.random() < _COLOUR_SHARE else None
    place: Place = "centre"
    if rng.random() < _PLACE_SHARE:
        place = "left" if rng.random() < 0.5 else "right"
    return Subject(name, colour, place)


def caption(rng: np.random.Generator, subject: Subject, language: Tongue) -> str:
    """Words for a subject, from one of the templates."""
    key = subject.colour is not None, subject.place != "centre"
    if language == "zh":
        return _chinese(rng, subject, key)
    colour = subject.colour.en if subject.colour else ""
    text = _pick(rng, _ENGLISH[key]).format(
        n=subject.name.en,
        a_n=noun_phrase(subject.name),
        colour=colour,
        on=f"on {article(colour)} {colour} background" if colour else "",
        side=f"on the {subject.place}",
    )
    if rng.random() < 0.5:
        text = text[0].upper() + text[1:]
    return text + ("." if rng.random() < _FULL_STOP_SHARE else "")


def _chinese(rng: np.random.Generator, subject: Subject, key: tuple[bool, bool]) -> str:
    name = subject.name.zh
    text = _pick(rng, _CHINESE[key]).format(
        n=name,
        a_n=name if name.startswith(_CHINESE_WITHOUT_MEASURE) else f"一个{name}",
        colour=subject.colour.zh if subject.colour else "",
        side="左边" if subject.place == "left" else "右边",
    )
    return text + ("。" if rng.random() < _FULL_STOP_SHARE else "")


def _pick(rng: np.random.Generator, templates: tuple[str, ...]) -> str:
    return templates[int(rng.integers(len(templates)))]
