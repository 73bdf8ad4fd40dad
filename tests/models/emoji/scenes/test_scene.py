import numpy as np
import pytest

from models.emoji.names import EmojiName
from models.emoji.scenes.grounds import COLOURS
from models.emoji.scenes.renderer import Studio
from models.emoji.scenes.rendering import render
from models.emoji.scenes.scene import Layout, Scene, draw_scene, paint_scene

SIDE_PX = 96


def scenes(studio: Studio, names: tuple[EmojiName, ...], layout: Layout, count: int) -> list[Scene]:
    rng = np.random.default_rng(11)
    return [draw_scene(rng, studio, names, names[7 * index % len(names)], layout) for index in range(count)]


def drawn_box(studio: Studio, scene: Scene, number: int, side_px: int) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of one object's pixels."""
    ground = scene.ground
    alone = Scene(scene.layout, ground, (scene.objects[number],))
    bare = Scene(scene.layout, ground, ())
    differs = (render(studio, alone, side_px) != render(studio, bare, side_px)).any(-1)
    rows, columns = np.flatnonzero(differs.any(1)), np.flatnonzero(differs.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])


def test_a_single_object_fills_its_share_and_stays_inside(studio: Studio, names: tuple[EmojiName, ...]) -> None:
    drawn = scenes(studio, names, "single", 200)
    for scene in drawn:
        (placed,) = scene.objects
        assert 0.40 <= placed.size <= 0.92 and abs(placed.angle_deg) <= 12
        for centre in placed.centre:
            assert placed.size / 2 * 0.95 <= centre <= 1 - placed.size / 2 * 0.95
    assert 0.3 < np.mean([scene.noise > 0 for scene in drawn]) < 0.7
    assert {scene.ground.colour for scene in drawn} == set(COLOURS)


def test_a_pair_stands_left_and_right_clear_of_each_other(studio: Studio, names: tuple[EmojiName, ...]) -> None:
    for scene in scenes(studio, names, "pair", 60):
        left, right = scene.objects
        assert left.name != right.name
        assert left.centre[0] + left.size / 2 <= 0.49 and right.centre[0] - right.size / 2 >= 0.51
        gap = drawn_box(studio, scene, 1, SIDE_PX)[0] - drawn_box(studio, scene, 0, SIDE_PX)[2]
        assert gap > -4, "corners may be turned towards each other, no more"


def test_several_of_a_kind_do_not_overlap(studio: Studio, names: tuple[EmojiName, ...]) -> None:
    drawn = scenes(studio, names, "count", 120)
    assert {len(scene.objects) for scene in drawn} == {1, 2, 3, 4}
    for scene in drawn:
        assert len({(placed.name, placed.style) for placed in scene.objects}) == 1
        for number, one in enumerate(scene.objects):
            assert 0.38 <= one.size <= 0.46
            for other in scene.objects[:number]:
                apart = max(abs(a - b) for a, b in zip(one.centre, other.centre, strict=True))
                assert apart > (one.size + other.size) / 2


def test_a_drawing_is_never_lost_on_its_ground(studio: Studio, names: tuple[EmojiName, ...]) -> None:
    white = next(colour for colour in COLOURS if colour.en == "white")
    pale = [name for name in names if white not in studio.visible_colours("twemoji", name)]
    assert {"egg", "swan"} <= {name.en for name in pale}
    rng = np.random.default_rng(0)
    for name in pale * 5:
        assert draw_scene(rng, studio, names, name, "single").ground.colour != white
        assert paint_scene(studio, name, None, "centre").ground.colour != white


@pytest.mark.parametrize(("place", "expected_x"), [("centre", 0.5), ("left", 0.26), ("right", 0.74)])
def test_a_painting_depends_on_its_subject_alone(
    studio: Studio, by_english: dict[str, EmojiName], place: str, expected_x: float
) -> None:
    scene = paint_scene(studio, by_english["red apple"], None, place)  # type: ignore[arg-type]
    pixels = render(studio, scene, SIDE_PX)
    assert scene.ground.colour.en == "white" and (pixels[0, 0] == 255).all()
    left, top, right, bottom = drawn_box(studio, scene, 0, SIDE_PX)
    assert (left + right) / 2 / SIDE_PX == pytest.approx(expected_x, abs=0.02)
    assert (top + bottom) / 2 / SIDE_PX == pytest.approx(0.5, abs=0.02)
    side = max(right - left, bottom - top) / SIDE_PX
    assert side == pytest.approx(0.78 if place == "centre" else 0.48, abs=0.04)


def test_a_drawing_has_its_colours_in_the_picture(studio: Studio, by_english: dict[str, EmojiName]) -> None:
    blue = next(colour for colour in COLOURS if colour.en == "blue")
    pixels = render(studio, paint_scene(studio, by_english["red apple"], blue, "centre"), SIDE_PX)
    assert pixels.shape == (SIDE_PX, SIDE_PX, 3) and pixels.dtype == np.uint8
    assert tuple(pixels[2, 2]) == blue.centre
    red, green, blue_value = pixels[SIDE_PX // 2, SIDE_PX // 2 - 10].astype(int)
    assert red > green + 80 and red > blue_value + 80


def test_a_larger_picture_shows_the_same_scene(studio: Studio, names: tuple[EmojiName, ...]) -> None:
    for scene in scenes(studio, names, "count", 6):
        scene = Scene(scene.layout, scene.ground, scene.objects)
        small, large = render(studio, scene, 96).astype(int), render(studio, scene, 192).astype(int)
        shrunk = large.reshape(96, 2, 96, 2, 3).mean((1, 3))
        assert np.abs(shrunk - small).mean() < 5


def test_noise_is_of_the_asked_strength(studio: Studio, names: tuple[EmojiName, ...]) -> None:
    grey = next(colour for colour in COLOURS if colour.en == "grey")
    flat = paint_scene(studio, names[0], grey, "centre")
    bare = Scene("single", flat.ground, (), noise=8.0, noise_seed=3)
    pixels = render(studio, bare, SIDE_PX)
    assert pixels.std() == pytest.approx(8.0, rel=0.05)
    assert pixels.mean() == pytest.approx(140, abs=0.5)
    other = render(studio, Scene("single", flat.ground, (), noise=8.0, noise_seed=4), SIDE_PX)
    assert (pixels != other).mean() > 0.8


def test_a_gradient_runs_between_its_two_shades(studio: Studio, names: tuple[EmojiName, ...]) -> None:
    for scene in scenes(studio, names, "single", 40):
        bare = render(studio, Scene("single", scene.ground, ()), SIDE_PX).reshape(-1, 3).astype(int)
        low = np.minimum(scene.ground.start, scene.ground.end)
        high = np.maximum(scene.ground.start, scene.ground.end)
        assert (bare >= low).all() and (bare <= high).all()
        assert np.abs(bare.max(0) - high).max() <= 1 and np.abs(bare.min(0) - low).max() <= 1
