"""Charts with a bar for each score, and sheets whose frames say who recognised a painting."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.emoji.names import EmojiName
from models.evaluation.emoji.benchmark import Tongue
from models.evaluation.emoji.painting import Painting
from models.evaluation.emoji.plots import COLUMNS, FRAME_PX, THUMBNAIL_PX, bars, contact_sheet, write_plots
from models.evaluation.emoji.report import Accuracy, Score

NAME = EmojiName("1f34e", "red apple", "红苹果", "Food & Drink")
CELL_PX = THUMBNAIL_PX + 2 * FRAME_PX
RED, YELLOW, GREEN = (192, 57, 43), (230, 167, 0), (60, 157, 91)
ENGLISH = (72, 120, 168)


def painting(by_chat: bool = True, by_classifier: bool = True, language: Tongue = "en", shade: int = 128) -> Painting:
    pixels = np.full((96, 96, 3), shade, dtype=np.uint8)
    return Painting(NAME, language, pixels, "", "", by_chat, by_classifier)


def score(measure: str, value: float = 0.5, language: str = "en", style: str = "trained", group: str = "") -> Score:
    return Score(measure, language, style, group, 10, Accuracy(value, max(0, value - 0.1), min(1, value + 0.1)))


@pytest.mark.parametrize(
    ("by_chat", "by_classifier", "frame"),
    [(False, False, RED), (True, False, YELLOW), (False, True, YELLOW), (True, True, GREEN)],
)
def test_a_frame_says_how_many_judges_recognised_it(
    by_chat: bool, by_classifier: bool, frame: tuple[int, int, int]
) -> None:
    sheet = contact_sheet([painting(by_chat, by_classifier, shade=7)])
    assert sheet.size == (CELL_PX, CELL_PX)
    corners = [sheet.getpixel((x, y)) for x in (0, CELL_PX - 1) for y in (0, CELL_PX - 1)]
    assert corners == [frame] * 4
    assert sheet.getpixel((CELL_PX // 2, CELL_PX // 2)) == (7, 7, 7)


def test_paintings_stand_in_their_order_in_rows() -> None:
    sheet = contact_sheet([painting(shade=number) for number in range(COLUMNS + 2)])
    assert sheet.size == (COLUMNS * CELL_PX, 2 * CELL_PX)
    middle = CELL_PX // 2
    shades = [sheet.getpixel((middle + CELL_PX * column, middle))[0] for column in range(COLUMNS)]  # type: ignore[index]
    assert shades == list(range(COLUMNS))
    assert sheet.getpixel((middle + CELL_PX, middle + CELL_PX)) == (COLUMNS + 1,) * 3
    assert sheet.getpixel((middle + 2 * CELL_PX, middle + CELL_PX)) == (255, 255, 255), "no more cells than paintings"


@pytest.mark.slow
def test_only_what_was_measured_is_drawn(tmp_path: Path) -> None:
    assert write_plots(tmp_path / "none", [], []) == []
    assert list((tmp_path / "none").iterdir()) == []

    scores = [score("name"), score("name", language="zh"), score("name", group="Objects")]
    files = write_plots(tmp_path, scores, [painting(language="zh")])
    assert [file.name for file in files] == ["answers.png", "name_groups.png", "paintings_zh.png"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("one", "chart"),
    [
        (score("count"), "answers.png"),
        (score("count", style="openmoji"), "unseen_drawings.png"),
        (score("name", group="Objects"), "name_groups.png"),
        (score("paint.chat", style="painted", group="Objects"), "painting_groups.png"),
        (score("paint.classifier", style="painted"), "paintings.png"),
        (score("classifier", language=""), "paintings.png"),
    ],
)
def test_a_score_has_its_chart(tmp_path: Path, one: Score, chart: str) -> None:
    (file,) = write_plots(tmp_path, [one], [])
    assert file.name == chart
    with Image.open(file) as picture:
        assert min(picture.size) > 300


def test_scores_of_one_style_alone_have_no_chart(tmp_path: Path) -> None:
    assert write_plots(tmp_path, [score("name", style="twemoji"), score("count", group="Objects")], []) == []


@pytest.mark.slow
def test_a_bar_is_as_high_as_its_score(tmp_path: Path) -> None:
    heights = {}
    for value in (0.25, 0.5, 1.0):
        file = tmp_path / f"{value}.png"
        bars(file, "title", [score("name", value)], lambda one: one.measure)
        with Image.open(file) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        is_bar = (np.abs(pixels.astype(int) - ENGLISH) < 3).all(-1)
        is_bar[:, np.flatnonzero(is_bar.sum(0) < 12)] = False  # of the legend
        heights[value] = int(is_bar.any(1).sum())
    assert heights[0.5] == pytest.approx(2 * heights[0.25], rel=0.06)
    assert heights[1.0] == pytest.approx(4 * heights[0.25], rel=0.06)
    assert heights[0.25] > 40
