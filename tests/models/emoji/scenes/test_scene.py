"""What the numbers of a scene mean, measured in its picture."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from models.emoji.names import EmojiName
from models.emoji.scenes.composition import draw_scene, paint_scene
from models.emoji.scenes.grounds import COLOURS
from models.emoji.scenes.renderer import Renderer
from models.emoji.scenes.scene import Ground, Layout, Place, Placed, Scene
from models.emoji.texts.conversation import QUESTIONS_OF_ALL_KINDS

SIDE_PX = 200
WHITE = Ground(COLOURS[9], (255, 255, 255), (255, 255, 255))


def seen_box(renderer: Renderer, scene: Scene) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of what is not ground, as shares of the side."""
    is_seen = (renderer.render(scene, SIDE_PX) != scene.ground.start).any(-1)
    rows, columns = np.flatnonzero(is_seen.any(1)), np.flatnonzero(is_seen.any(0))
    left, top, right, bottom = (
        float(place) / SIDE_PX for place in (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    )
    return left, top, right, bottom


@pytest.mark.parametrize(("centre", "size"), [((0.5, 0.5), 0.8), ((0.3, 0.7), 0.4), ((0.7, 0.25), 0.3)])
def test_centre_and_longer_side_are_shares_of_the_pictures_side(
    renderer: Renderer, by_english: dict[str, EmojiName], centre: tuple[float, float], size: float
) -> None:
    placed = Placed(by_english["red apple"], "twemoji", centre, size, 0.0)
    left, top, right, bottom = seen_box(renderer, Scene("single", WHITE, (placed,)))
    assert ((left + right) / 2, (top + bottom) / 2) == pytest.approx(centre, abs=0.015)
    assert max(right - left, bottom - top) == pytest.approx(size, abs=0.02)


def test_the_first_of_a_pair_is_on_the_left(renderer: Renderer, names: tuple[EmojiName, ...]) -> None:
    rng = np.random.default_rng(3)
    for name in names[:20]:
        scene = draw_scene(rng, renderer, names, name, "pair")
        first, second = scene.objects
        assert first.name != second.name and first.centre[0] < 0.5 < second.centre[0]
        assert name in (first.name, second.name)


def test_equal_scenes_are_one_key_and_one_picture(renderer: Renderer, names: tuple[EmojiName, ...]) -> None:
    drawn = [draw_scene(np.random.default_rng(4), renderer, names, names[5], "count") for _ in range(2)]
    assert len(set(drawn)) == 1
    np.testing.assert_array_equal(renderer.render(drawn[0], 64), renderer.render(drawn[1], 64))
    assert replace(drawn[0], noise_seed=drawn[0].noise_seed + 1) not in drawn


def test_every_layout_can_be_drawn_and_asked_about(renderer: Renderer, names: tuple[EmojiName, ...]) -> None:
    assert set(get_args(Layout)) == set(QUESTIONS_OF_ALL_KINDS)
    for layout in get_args(Layout):
        assert draw_scene(np.random.default_rng(1), renderer, names, names[0], layout).layout == layout
    for place in get_args(Place):
        centre = paint_scene(renderer, names[0], None, place).objects[0].centre[0]
        assert {"left": centre < 0.5, "centre": centre == 0.5, "right": centre > 0.5}[place]


def test_without_a_word_a_ground_is_level_and_a_scene_has_no_noise(
    renderer: Renderer, names: tuple[EmojiName, ...]
) -> None:
    shaded = Scene("single", Ground(COLOURS[4], (0, 0, 100), (0, 0, 200)), ())
    pixels = renderer.render(shaded, 32)
    assert (pixels == pixels[:1]).all(), "a direction of 0 degrees runs from left to right"
    assert pixels[0, 0, 2] < 110 and pixels[0, -1, 2] > 190
