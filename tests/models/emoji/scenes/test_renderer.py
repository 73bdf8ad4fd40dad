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


def test_a_drawing_has_its_colours_in_the_picture(renderer: Renderer, by_english: dict[str, EmojiName]) -> None:
    blue = next(colour for colour in COLOURS if colour.en == "blue")
    pixels = renderer.render(paint_scene(renderer, by_english["red apple"], blue, "centre"), SIDE_PX)
    assert pixels.shape == (SIDE_PX, SIDE_PX, 3) and pixels.dtype == np.uint8
    assert tuple(pixels[2, 2]) == blue.centre
    red, green, blue_value = pixels[SIDE_PX // 2, SIDE_PX // 2 - 10].astype(int)
    assert red > green + 80 and red > blue_value + 80


def test_a_larger_picture_shows_the_same_scene(renderer: Renderer, names: tuple[EmojiName, ...]) -> None:
    for scene in scenes(renderer, names, "count", 6):
        scene = Scene(scene.layout, scene.ground, scene.objects)
        small, large = renderer.render(scene, 96).astype(int), renderer.render(scene, 192).astype(int)
        shrunk = large.reshape(96, 2, 96, 2, 3).mean((1, 3))
        assert np.abs(shrunk - small).mean() < 5


def test_noise_is_of_the_asked_strength(renderer: Renderer, names: tuple[EmojiName, ...]) -> None:
    grey = next(colour for colour in COLOURS if colour.en == "grey")
    flat = paint_scene(renderer, names[0], grey, "centre")
    bare = Scene("single", flat.ground, (), noise=8.0, noise_seed=3)
    pixels = renderer.render(bare, SIDE_PX)
    assert pixels.std() == pytest.approx(8.0, rel=0.05)
    assert pixels.mean() == pytest.approx(140, abs=0.5)
    other = renderer.render(Scene("single", flat.ground, (), noise=8.0, noise_seed=4), SIDE_PX)
    assert (pixels != other).mean() > 0.8


def test_a_gradient_runs_between_its_two_shades(renderer: Renderer, names: tuple[EmojiName, ...]) -> None:
    for scene in scenes(renderer, names, "single", 40):
        bare = renderer.render(Scene("single", scene.ground, ()), SIDE_PX).reshape(-1, 3).astype(int)
        low = np.minimum(scene.ground.start, scene.ground.end)
        high = np.maximum(scene.ground.start, scene.ground.end)
        assert (bare >= low).all() and (bare <= high).all()
        assert np.abs(bare.max(0) - high).max() <= 1 and np.abs(bare.min(0) - low).max() <= 1
