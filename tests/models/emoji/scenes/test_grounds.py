import colorsys
from itertools import combinations

import numpy as np
import pytest

from models.emoji.scenes.grounds import COLOURS, RGB, GroundColour


def lies_in(colour: GroundColour, rgb: RGB, slack: float = 0.02) -> bool:
    """Whether a shade is within a colour's ranges, up to rounding to bytes."""
    hue, saturation, value = colorsys.rgb_to_hsv(*(channel / 255 for channel in rgb))
    span = colour.hue[1] - colour.hue[0]
    inside_hue = span >= 360 or (hue * 360 - colour.hue[0] + 3) % 360 <= span + 6
    return (
        inside_hue
        and colour.saturation[0] - slack <= saturation <= colour.saturation[1] + slack
        and colour.value[0] - slack <= value <= colour.value[1] + slack
    )


@pytest.mark.slow
def test_a_shade_is_its_own_colour_and_no_other(rng: np.random.Generator) -> None:
    for colour in COLOURS:
        for _ in range(300):
            shade = colour.shade(rng)
            called = [other.en for other in COLOURS if lies_in(other, shade)]
            if colour.en != "black":  # next to black, saturation is a matter of rounding
                assert called == [colour.en], shade
            else:
                assert max(shade) <= 0.12 * 255


def test_centres_are_shades_of_their_colour_and_far_from_each_other() -> None:
    for colour in COLOURS:
        assert lies_in(colour, colour.centre), colour.en
    for one, other in combinations(COLOURS, 2):
        distance = np.linalg.norm(np.subtract(one.centre, other.centre))
        assert distance > 60, (one.en, other.en)


@pytest.mark.parametrize(("one", "other"), list(combinations(COLOURS, 2)), ids=lambda colour: colour.en)
def test_shades_of_two_colours_keep_apart(one: GroundColour, other: GroundColour, rng: np.random.Generator) -> None:
    shades = [np.array([colour.shade(rng) for _ in range(150)], dtype=float) for colour in (one, other)]
    distances = np.linalg.norm(shades[0][:, None] - shades[1][None], axis=-1)
    assert distances.min() > 25, distances.min()


def test_names_are_distinct_in_both_languages() -> None:
    assert len({colour.en for colour in COLOURS}) == len({colour.zh for colour in COLOURS}) == len(COLOURS) == 11
    assert all(colour.zh.endswith("色") for colour in COLOURS)
