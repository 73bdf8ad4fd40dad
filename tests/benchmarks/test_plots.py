"""Figures of what the benchmarks print: what is drawn is what was measured, and no label lies on another."""

from pathlib import Path

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from benchmarks.plots import RESULTS, chat_figure, last_json, load_figure, main, roofline_figure

FIGURES = {"load": load_figure, "chat": chat_figure, "roofline": roofline_figure}


def _texts(figure: Figure) -> list[Text]:
    FigureCanvasAgg(figure).draw()
    return [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]


@pytest.mark.slow
@pytest.mark.parametrize("name", FIGURES)
def test_no_label_lies_on_another(name: str) -> None:
    figure = FIGURES[name](last_json(RESULTS / f"{name}.txt"))
    boxes = [(text.get_text(), text.get_window_extent()) for text in _texts(figure)]
    page = figure.bbox
    overlapping = [
        (first, second)
        for number, (first, box) in enumerate(boxes)
        for second, other in boxes[:number]
        if page.overlaps(box) and box.overlaps(other)
    ]
    assert len(boxes) > 5 and overlapping == []


def test_the_load_is_drawn_as_measured() -> None:
    measured = last_json(RESULTS / "load.txt")
    rate, _ = load_figure(measured).axes
    drawn = {line.get_label(): list(line.get_ydata()) for line in rate.get_lines()}
    for server in ("before", "now"):
        assert drawn[server] == [row["requests_per_s"] for row in measured["rows"] if row["server"] == server]


@pytest.mark.slow
def test_every_result_has_its_picture(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in FIGURES:
        (tmp_path / f"{name}.txt").write_text((RESULTS / f"{name}.txt").read_text())
    monkeypatch.setattr("sys.argv", ["plots.py", "--results", str(tmp_path)])
    assert main() == 0
    for name in FIGURES:
        with Image.open(tmp_path / f"{name}.png") as drawn, Image.open(RESULTS / f"{name}.png") as kept:
            assert drawn.size == kept.size


def test_a_file_without_json_is_named(tmp_path: Path) -> None:
    path = tmp_path / "load.txt"
    path.write_text("nothing\n")
    with pytest.raises(SystemExit, match=r"load\.txt holds no line of JSON"):
        last_json(path)
