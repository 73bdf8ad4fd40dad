"""What reviews come to: the paper's table, the model's points in per cent of the reference answers' (SPEC §10).

As in LLaVA's protocol a number is the ratio of two sums of points, over the questions of a category or over all of
them; the average is thus no mean of three ratios. Intervals hold 95 % of bootstrap resamples of the questions, drawn
within each category.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.evaluation.errors import EvaluationError
from models.evaluation.json_lines import Line
from models.evaluation.llava.judge import ORDERS, is_scored

CATEGORIES = {"conv": "conversation", "detail": "detail", "complex": "complex"}
AVERAGE = "average"
PERCENTILES = (2.5, 97.5)


@dataclass(frozen=True)
class Cell:
    """The model's points in per cent of the reference's, and what they rest on."""

    percent: float
    low: float
    high: float
    reference_mean: float  # points, 1 to 10
    model_mean: float
    questions: int

    def to_json(self) -> dict[str, Any]:
        return {
            "percent": round(self.percent, 2),
            "interval_95": [round(self.low, 2), round(self.high, 2)],
            "reference_mean": round(self.reference_mean, 3),
            "model_mean": round(self.model_mean, 3),
            "questions": self.questions,
        }


@dataclass(frozen=True)
class Row:
    """One model's line of the table.

    Args:
        unscored: (question id, order) pairs whose judgements held no scores; they are in no cell.
        position_bias: points that an answer gains by standing second, in the mean; None unless both orders were run.
    """

    model_id: str
    judge: str
    cells: dict[str, Cell]
    unscored: list[tuple[int, str]]
    position_bias: float | None

    def to_json(self) -> dict[str, Any]:
        return {
            "model_id": self.model_id,
            "judge": self.judge,
            "categories": {name: cell.to_json() for name, cell in self.cells.items()},
            "unscored": [{"question_id": question, "order": order} for question, order in self.unscored],
            "position_bias": None if self.position_bias is None else round(self.position_bias, 3),
        }


def tabulate(lines: Sequence[Line], where: str, resamples: int, seed: int) -> Row:
    """The row of one model's reviews.

    A question that was judged in both orders counts once, with the mean of what could be read.

    Raises:
        EvaluationError: reviews of two models or by two judges, or none with scores.
    """
    who = {(str(line.get("model_id")), str(line.get("judge"))) for line in lines}
    if len(who) != 1:
        raise EvaluationError(f"{where}: reviews of {len(who)} pairs of model and judge; one pair a file is allowed")
    scored = [line for line in lines if is_scored(line)]
    if not scored:
        raise EvaluationError(f"{where}: none of its {len(lines)} reviews has scores")
    points = _points(scored)
    cells = {CATEGORIES.get(name, name): _cell([points[name]], resamples, seed) for name in _sorted(points)}
    cells[AVERAGE] = _cell([points[name] for name in _sorted(points)], resamples, seed)
    ((model_id, judge),) = who
    found = {(line["question_id"], line["order"]) for line in scored}
    asked = {(line["question_id"], line["order"]) for line in lines}
    return Row(model_id, judge, cells, sorted(asked - found), _position_bias(scored))


def _sorted(categories: Iterable[str]) -> list[str]:
    """In the paper's order; others after them."""
    known = list(CATEGORIES)
    return sorted(categories, key=lambda name: (known.index(name) if name in known else len(known), name))


def _points(scored: Iterable[Line]) -> dict[str, NDArray[np.float64]]:
    """Category -> (questions, 2): mean points of reference and model."""
    by_question: dict[str, dict[int, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    for line in scored:
        pair = (float(line["reference_score"]), float(line["model_score"]))
        by_question[line["category"]][line["question_id"]].append(pair)
    return {
        category: np.array([np.mean(pairs, axis=0) for _, pairs in sorted(questions.items())])
        for category, questions in by_question.items()
    }


def _cell(strata: Sequence[NDArray[np.float64]], resamples: int, seed: int) -> Cell:
    """Of the questions of several strata together, resampled within each."""
    rng = np.random.default_rng(seed)
    sums = np.zeros((resamples, 2))
    for points in strata:
        drawn = rng.integers(len(points), size=(resamples, len(points)))
        sums += points[drawn].sum(axis=1)  # (resamples, 2)
    low, high = np.percentile(100 * sums[:, 1] / sums[:, 0], PERCENTILES)
    together = np.concatenate(strata)
    reference, model = together.mean(axis=0)
    return Cell(float(100 * model / reference), float(low), float(high), float(reference), float(model), len(together))


def _position_bias(scored: Sequence[Line]) -> float | None:
    """Over the questions with scores in both orders: half of what both answers gain by changing to second place."""
    by_order: dict[str, dict[int, Line]] = {order: {} for order in ORDERS}
    for line in scored:
        by_order[line["order"]][line["question_id"]] = line
    reference_first, model_first = (by_order[order] for order in ORDERS)
    gains = [
        (reference_first[i]["model_score"] - model_first[i]["model_score"])
        + (model_first[i]["reference_score"] - reference_first[i]["reference_score"])
        for i in reference_first.keys() & model_first.keys()
    ]
    return float(np.mean(gains)) / 2 if gains else None


def as_text(rows: Sequence[Row]) -> str:
    """The table for people: per cent and interval."""
    names = [*dict.fromkeys(name for row in rows for name in row.cells if name != AVERAGE), AVERAGE]
    width = max(len("model"), *(len(row.model_id) for row in rows))
    lines = [f"{'model':<{width}}" + "".join(f"  {name:>20}" for name in names)]
    for row in rows:
        cells = [_shown(row.cells.get(name)) for name in names]
        lines.append(f"{row.model_id:<{width}}" + "".join(f"  {cell:>20}" for cell in cells))
    lines.append("points of the model in per cent of the reference answers'; in brackets 95 % of bootstrap resamples")
    for row in rows:
        notes = [f"judge {row.judge}", f"{row.cells[AVERAGE].questions} questions"]
        if row.unscored:
            listed = ", ".join(f"{question} ({order})" for question, order in row.unscored)
            notes.append(f"left out, without readable scores: {listed}")
        if row.position_bias is not None:
            notes.append(f"second place is worth {row.position_bias:+.2f} points")
        lines.append(f"{row.model_id}: {'; '.join(notes)}")
    return "\n".join(lines)


def _shown(cell: Cell | None) -> str:
    return "-" if cell is None else f"{cell.percent:.1f} [{cell.low:.1f}, {cell.high:.1f}]"
