import numpy as np
import pytest

from models.emoji.names import EmojiName
from models.emoji.scenes.composition import draw_scene, paint_scene
from models.emoji.scenes.grounds import COLOURS
from models.emoji.scenes.renderer import Renderer
from models.emoji.scenes.scene import Layout, Scene

SIDE_PX = 96


def scenes(renderer: Renderer, names: tuple[EmojiName, ...], layout: Layout, count: int) -> list[Scene]:
    rng = np.random.default_rng(11)
    return [draw_scene(rng, renderer, names, names[7 * index % len(names)], layout) for index in range(count)]


def drawn_box(renderer: Renderer, scene: Scene, number: int, side_px: int) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of one object's pixels."""
    ground = scene.ground
    alone = Scene(scene.layout, ground, (scene.objects[number],))
    bare = Scene(scene.layout, ground, ())
    differs = (renderer.render(alone, side_px) != renderer.render(bare, side_px)).any(-1)
    rows, columns = np.flatnonzero(differs.any(1)), np.flatnonzero(differs.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])


@pytest.mark.slow
def test_a_single_object_fills_its_share_and_stays_inside(renderer: Renderer, names: tuple[EmojiName, ...]) -> None:
    drawn = scenes(renderer, names, "single", 200)
    for scene in drawn:
        (placed,) = scene.objects
        assert 0.40 <= placed.size <= 0.92 and abs(placed.angle_deg) <= 12
        for centre in placed.centre:
            assert placed.size / 2 * 0.95 <= centre <= 1 - placed.size / 2 * 0.95
    assert 0.3 < np.mean([scene.noise > 0 for scene in drawn]) < 0.7
    assert {scene.ground.colour for scene in drawn} == set(COLOURS)


@pytest.mark.slow
def test_a_pair_stands_left_and_right_clear_of_each_other(renderer: Renderer, names: tuple[EmojiName, ...]) -> None:
    for scene in scenes(renderer, names, "pair", 60):
        left, right = scene.objects
        assert left.name != right.name
        assert left.centre[0] + left.size / 2 <= 0.49 and right.centre[0] - right.size / 2 >= 0.51
        gap = drawn_box(renderer, scene, 1, SIDE_PX)[0] - drawn_box(renderer, scene, 0, SIDE_PX)[2]
        assert gap > -4, "corners may be turned towards each other, no more"


@pytest.mark.slow
def test_several_of_a_kind_do_not_overlap(renderer: Renderer, names: tuple[EmojiName, ...]) -> None:
    drawn = scenes(renderer, names, "count", 120)
    assert {len(scene.objects) for scene in drawn} == {1, 2, 3, 4}
    for scene in drawn:
        assert len({(placed.name, placed.style) for placed in scene.objects}) == 1
        for number, one in enumerate(scene.objects):
            assert 0.38 <= one.size <= 0.46
            for other in scene.objects[:number]:
                apart = max(abs(a - b) for a, b in zip(one.centre, other.centre, strict=True))
                assert apart > (one.size + other.size) / 2


@pytest.mark.slow
def test_a_drawing_is_never_lost_on_its_ground(renderer: Renderer, names: tuple[EmojiName, ...]) -> None:
    white = next(colour for colour in COLOURS if colour.en == "white")
    pale = [name for name in names if white not in renderer.visible_colours("twemoji", name)]
    assert {"egg", "swan"} <= {name.en for name in pale}
    rng = np.random.default_rng(0)
    for name in pale * 5:
        assert draw_scene(rng, renderer, names, name, "single").ground.colour != white
        assert paint_scene(renderer, name, None, "centre").ground.colour != white


@pytest.mark.parametrize(("place", "expected_x"), [("centre", 0.5), ("left", 0.26), ("right", 0.74)])
def test_a_painting_depends_on_its_subject_alone(
    renderer: Renderer, by_english: dict[str, EmojiName], place: str, expected_x: float
) -> None:
    scene = paint_scene(renderer, by_english["red apple"], None, place)  # type: ignore[arg-type]
    pixels = renderer.render(scene, SIDE_PX)
    assert scene.ground.colour.en == "white" and (pixels[0, 0] == 255).all()
    left, top, right, bottom = drawn_box(renderer, scene, 0, SIDE_PX)
    assert (left + right) / 2 / SIDE_PX == pytest.approx(expected_x, abs=0.02)
    assert (top + bottom) / 2 / SIDE_PX == pytest.approx(0.5, abs=0.02)
    side = max(right - left, bottom - top) / SIDE_PX
    assert side == pytest.approx(0.78 if place == "centre" else 0.48, abs=0.04)
