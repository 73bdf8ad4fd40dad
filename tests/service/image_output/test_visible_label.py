"""The visible label: high enough, inside the picture, legible on any ground, and drawn where it belongs alone."""

import math

import pytest
from PIL import Image, ImageChops

from safety.text.language import language_of
from service.image_output.visible_label import TEXTS, LabelLanguage, character_height_px, draw, label_language

SIZES = [(16, 16), (64, 64), (96, 96), (512, 512), (512, 16), (16, 512), (128, 1024), (1024, 1024), (1024, 128)]
LANGUAGES: list[LabelLanguage] = ["zh", "en"]


def drawn(size_px: tuple[int, int], language: LabelLanguage, ground: tuple[int, int, int]) -> Image.Image:
    picture = Image.new("RGB", size_px, ground)
    draw(picture, language)
    return picture


def changed_box(picture: Image.Image, ground: tuple[int, int, int]) -> tuple[int, int, int, int]:
    box = ImageChops.difference(picture, Image.new("RGB", picture.size, ground)).getbbox()
    assert box is not None
    return box


def ink_columns(letters: Image.Image) -> list[tuple[int, int]]:
    """Runs of columns that hold ink: (first, last + 1)."""
    filled = [letters.crop((x, 0, x + 1, letters.height)).getbbox() is not None for x in range(letters.width)]
    starts = [x for x, ink in enumerate(filled) if ink and (x == 0 or not filled[x - 1])]
    ends = [x + 1 for x, ink in enumerate(filled) if ink and (x + 1 == len(filled) or not filled[x + 1])]
    return list(zip(starts, ends, strict=True))


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("size_px", SIZES)
def test_the_characters_are_a_twentieth_of_the_short_side_high(
    size_px: tuple[int, int], language: LabelLanguage
) -> None:
    grey = drawn(size_px, language, (0, 0, 0)).convert("L")  # on black the box is black too: what is left is ink
    left, top, right, bottom = changed_box(grey.convert("RGB"), (0, 0, 0))
    assert bottom - top >= 0.05 * min(size_px)
    assert bottom - top == character_height_px(size_px, TEXTS[language])
    assert 0 <= left and right <= size_px[0] and right - left > 2 * (bottom - top)
    assert left >= size_px[0] - right, "it sits on the right"


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_single_character_has_the_full_height(language: LabelLanguage) -> None:
    letters = drawn((512, 512), language, (0, 0, 0)).convert("L").point(lambda value: 255 if value > 127 else 0)
    box = letters.getbbox()
    assert box is not None
    letters = letters.crop(box)
    runs = ink_columns(letters)
    assert len(runs) == len(TEXTS[language].replace(" ", ""))
    for left, right in runs:
        glyph = letters.crop((left, 0, right, letters.height)).getbbox()
        assert glyph is not None and glyph[3] - glyph[1] >= math.ceil(0.05 * 512) - 1


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("size_px", SIZES)
def test_the_box_lies_inside_the_picture_and_nothing_else_changes(
    size_px: tuple[int, int], language: LabelLanguage
) -> None:
    white = (255, 255, 255)
    picture = drawn(size_px, language, white)
    left, top, right, bottom = changed_box(picture, white)
    assert left >= 0 and top >= 0 and right <= size_px[0] and bottom <= size_px[1]
    if min(size_px) > 16:
        padding_px = (bottom - top - character_height_px(size_px, TEXTS[language])) / 2
        assert padding_px >= 2, "the box is wider than its letters"


def luminance(colour: tuple[int, ...]) -> float:
    """Relative luminance, WCAG 2."""
    linear = [c / 12.92 if (c := value / 255) <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for value in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("ground", [(255, 255, 255), (0, 0, 0), (128, 128, 128), (255, 255, 0), (200, 220, 255)])
@pytest.mark.parametrize("language", LANGUAGES)
def test_the_contrast_is_at_least_7_to_1(ground: tuple[int, int, int], language: LabelLanguage) -> None:
    picture = drawn((512, 512), language, ground)
    counted = picture.crop((512 - 100, 512 - 40, 512 - 12, 512 - 12)).getcolors(100_000)
    assert counted is not None
    colours = [colour for _, colour in sorted(counted, reverse=True)[:2]]  # the box and the ink
    assert (255, 255, 255) in colours
    lights = sorted(luminance(colour) for colour in colours)  # type: ignore[arg-type]
    assert (lights[1] + 0.05) / (lights[0] + 0.05) >= 7


def test_both_languages_look_different_and_stay_the_same() -> None:
    ground = (9, 99, 199)
    chinese, english = drawn((256, 256), "zh", ground), drawn((256, 256), "en", ground)
    assert chinese.tobytes() != english.tobytes()
    assert chinese.tobytes() == drawn((256, 256), "zh", ground).tobytes()


def test_small_pictures_get_larger_letters_where_they_fit() -> None:
    assert character_height_px((96, 96), TEXTS["zh"]) == 12
    assert 5 <= character_height_px((96, 96), TEXTS["en"]) < 12
    assert character_height_px((512, 512), TEXTS["en"]) == 26


@pytest.mark.parametrize(
    ("prompt", "language"),
    [
        ("一只猫", "zh"),
        ("photo of 北京", "zh"),
        ("a photo of 北京", "en"),
        ("ネコの絵", "zh"),
        ("猫がソファーに座っている", "zh"),
        ("𠮷", "zh"),
        ("", "en"),
        ("кот, 42!", "en"),
    ],
)
def test_the_prompts_language(prompt: str, language: LabelLanguage) -> None:
    """As the screens tell it."""
    assert label_language(language_of(prompt)) == language
