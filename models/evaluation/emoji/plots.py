"""Charts of the scores, and contact sheets of the paintings, as PNG files."""

from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from models.evaluation.emoji.benchmark import TONGUES
from models.evaluation.emoji.classifier import resized
from models.evaluation.emoji.painting import Painting
from models.evaluation.emoji.report import Score

COLOURS = {"en": "#4878a8", "zh": "#d1605e", "": "#6a9f58"}
LANGUAGES = {"en": "English", "zh": "Chinese", "": "no language"}
THUMBNAIL_PX = 64
FRAME_PX = 3
COLUMNS = 32
# What a painting's frame says: recognised by none of the judges, by one, by both.
FRAMES = ("#c0392b", "#e6a700", "#3c9d5b")


def write_plots(folder: Path, scores: Sequence[Score], paintings: Sequence[Painting]) -> list[Path]:
    """The files written: charts of what was measured, and a sheet of paintings for each language."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = [score for score in scores if not score.group]
    answers = [score for score in whole if score.language and not score.measure.startswith("paint.")]
    painted = [score for score in whole if score.measure.startswith(("paint.", "classifier")) and score not in answers]
    groups = [score for score in scores if score.group]
    charts = {
        "answers": (
            "Right answers on unseen compositions",
            [one for one in answers if one.style == "trained"],
            _measure,
        ),
        "unseen_drawings": ("Right answers on OpenMoji", [one for one in answers if one.style == "openmoji"], _measure),
        "name_groups": ("Named rightly, by group", [one for one in groups if one.measure == "name"], _group),
        "painting_groups": (
            "Paintings recognised by the chat model, by group",
            [one for one in groups if one.measure == "paint.chat"],
            _group,
        ),
        "paintings": (
            "Paintings recognised, and real pictures by the classifier",
            [one for one in painted if one.style in ("trained", "painted")],
            _measure,
        ),
    }
    files = []
    for name, (title, wanted, label) in charts.items():
        if wanted:
            files.append(folder / f"{name}.png")
            bars(files[-1], title, wanted, label)
    for language in TONGUES:
        if shown := [painting for painting in paintings if painting.language == language]:
            files.append(folder / f"paintings_{language}.png")
            contact_sheet(shown).save(files[-1])
    return files


def bars(file: Path, title: str, scores: Sequence[Score], label: Callable[[Score], str]) -> None:
    """A bar for each score with its interval, side by side for the languages of one label."""
    labels = list(dict.fromkeys(label(score) for score in scores))
    languages = list(dict.fromkeys(score.language for score in scores))
    width = 0.8 / len(languages)
    figure = Figure(figsize=(max(5.0, 1.1 * len(labels) + 1), 4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for number, language in enumerate(languages):
        shown = [score for score in scores if score.language == language]
        places = [labels.index(label(score)) + (number - (len(languages) - 1) / 2) * width for score in shown]
        values = [score.correct.value for score in shown]
        below = [max(0.0, score.correct.value - score.correct.low) for score in shown]
        above = [max(0.0, score.correct.high - score.correct.value) for score in shown]
        drawn = axes.bar(
            places,
            values,
            width,
            yerr=[below, above],
            color=COLOURS[language],
            label=LANGUAGES[language],
            error_kw={"elinewidth": 1},
        )
        axes.bar_label(drawn, [f"{value * 100:.0f}" for value in values], fontsize=7, padding=2)
    axes.set_xticks(range(len(labels)), labels, rotation=20, ha="right", fontsize=8)
    axes.set_ylim(0, 1.1)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    axes.set_title(title, fontsize=10)
    axes.legend(fontsize=8, loc="lower right")
    figure.savefig(file)


def contact_sheet(paintings: Sequence[Painting]) -> Image.Image:
    """All paintings in the order of the names; the frame is green, yellow or red for two, one or no right judge."""
    columns = min(COLUMNS, len(paintings))
    rows = -(-len(paintings) // columns)
    cell_px = THUMBNAIL_PX + 2 * FRAME_PX
    sheet = Image.new("RGB", (columns * cell_px, rows * cell_px), "white")
    draw = ImageDraw.Draw(sheet)
    for place, painting in enumerate(paintings):
        left, top = place % columns * cell_px, place // columns * cell_px
        frame = FRAMES[painting.by_chat + painting.by_classifier]
        draw.rectangle((left, top, left + cell_px - 1, top + cell_px - 1), outline=frame, width=FRAME_PX - 1)
        sheet.paste(Image.fromarray(resized(painting.pixels, THUMBNAIL_PX)), (left + FRAME_PX, top + FRAME_PX))
    return sheet


def _measure(score: Score) -> str:
    return score.measure


def _group(score: Score) -> str:
    return score.group
