"""Accuracies with their uncertainty, what is demanded of them, and the table for people."""

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLINGS = 1000
_PERCENTILES = (2.5, 97.5)
_SEED = 0


@dataclass(frozen=True)
class Accuracy:
    """Share of right answers with its 95 % interval, by the bootstrap over pictures."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, hits: Sequence[int], asked: Sequence[int]) -> "Accuracy":
        """From each picture's right answers and questions: those about one picture are not independent."""
        right, total = np.asarray(hits), np.asarray(asked)
        drawn = np.random.default_rng(_SEED).integers(len(total), size=(RESAMPLINGS, len(total)), dtype=np.int32)
        low, high = np.percentile(right[drawn].sum(1) / total[drawn].sum(1), _PERCENTILES)
        return cls(float(right.sum() / total.sum()), float(low), float(high))


@dataclass(frozen=True)
class Score:
    """One cell of the report.

    Args:
        measure: what was asked for, such as `name`, or who named a painting: `paint.chat`, `paint.classifier`.
        style: of the drawings; `trained` for those of all trained styles together.
        group: of the emoji, "" for all.
        count: questions or pictures.
        exact: to the letter; None where that has no meaning.
    """

    measure: str
    language: str
    style: str
    group: str
    count: int
    correct: Accuracy
    exact: Accuracy | None = None


@dataclass(frozen=True)
class Requirement:
    """A least value of every score of a measure, such as `name`, or of one of them: `name.en`, `openmoji.name.zh`."""

    name: str
    least: float

    @classmethod
    def parse(cls, text: str) -> tuple["Requirement", ...]:
        """`name=0.97,paint.chat.en=0.85`. Raises argparse.ArgumentTypeError."""
        found = []
        for part in text.split(","):
            name, _, value = part.strip().partition("=")
            try:
                least = float(value)
            except ValueError:
                least = -1.0
            if not name or not 0 <= least <= 1:
                raise argparse.ArgumentTypeError(f"{part.strip()!r} is no requirement; write MEASURE=SHARE, 0 to 1")
            found.append(cls(name, least))
        return tuple(found)


@dataclass(frozen=True)
class Outcome:
    """A requirement and the lowest score that it is about, None where nothing was measured: that is missed too."""

    requirement: Requirement
    lowest: float | None

    @property
    def is_met(self) -> bool:
        return self.lowest is not None and self.lowest >= self.requirement.least


def measure_names(score: Score) -> tuple[str, ...]:
    """Under what names a score may be demanded; scores of one group have none."""
    if score.group or score.style not in ("trained", "openmoji", "painted"):
        return ()
    measure = f"openmoji.{score.measure}" if score.style == "openmoji" else score.measure
    return (measure, f"{measure}.{score.language}") if score.language else (measure,)


def check(requirements: Iterable[Requirement], scores: Sequence[Score]) -> list[Outcome]:
    """Each requirement against the scores of its name, by their normalised answers."""
    outcomes = []
    for requirement in requirements:
        values = [score.correct.value for score in scores if requirement.name in measure_names(score)]
        outcomes.append(Outcome(requirement, min(values, default=None)))
    return outcomes


def table(scores: Sequence[Score]) -> list[str]:
    """Aligned lines: a row for a measure, style and group, a column for each language."""
    languages = list(dict.fromkeys(score.language for score in scores))
    rows: dict[tuple[str, str], dict[str, Score]] = {}
    for score in scores:
        rows.setdefault((score.measure, score.group or score.style), {})[score.language] = score
    lines = [f"{'measure':<18} {'drawings':<18}" + "".join(f" {language or 'any':<34}" for language in languages)]
    for (measure, part), cells in rows.items():
        texts = "".join(f" {_cell(cells.get(language)):<34}" for language in languages)
        lines.append(f"{measure:<18} {part:<18}{texts}".rstrip())
    return lines


def outcome_line(outcome: Outcome) -> str:
    got = "not measured" if outcome.lowest is None else percent(outcome.lowest)
    verdict = "met" if outcome.is_met else "MISSED"
    return f"required {outcome.requirement.name} {percent(outcome.requirement.least)}: {got}, {verdict}"


def percent(share: float) -> str:
    """Down to what is reached: 0.9699 is not shown as 97.0 %."""
    return f"{np.floor(share * 1000 + 1e-9) / 10:.1f} %"


def _cell(score: Score | None) -> str:
    if score is None:
        return "-"
    shown = f"{percent(score.correct.value)} ({score.correct.low * 100:.1f}-{score.correct.high * 100:.1f})"
    exact = f" exact {percent(score.exact.value)}" if score.exact else ""
    return f"{shown} n {score.count}{exact}"
