"""Intervals against known values, requirements, and the table."""

import argparse

import numpy as np
import pytest

from models.evaluation.emoji.report import Accuracy, Requirement, Score, check, percent, table


def test_the_interval_is_that_of_the_binomial_where_each_picture_has_one_question() -> None:
    hits = [1] * 180 + [0] * 20
    found = Accuracy.of(hits, [1] * 200)
    # Resampling 200 pictures draws from the binomial of n = 200, p = 0.9, whose 2.5 % and 97.5 % quantiles are known.
    quantiles = np.quantile(np.random.default_rng(1).binomial(200, 0.9, 200_000), [0.025, 0.975]) / 200
    assert quantiles.tolist() == [0.855, 0.94]
    assert found.value == 0.9
    assert (found.low, found.high) == pytest.approx((0.855, 0.94), abs=0.006)


def test_questions_about_one_picture_widen_the_interval() -> None:
    alone = Accuracy.of([1] * 160 + [0] * 40, [1] * 200)
    together = Accuracy.of([5] * 32 + [0] * 8, [5] * 40)
    assert alone.value == together.value == 0.8
    assert together.high - together.low > 1.7 * (alone.high - alone.low)


def test_no_misses_and_no_hits_leave_no_interval() -> None:
    assert Accuracy.of([1, 1], [1, 1]) == Accuracy(1, 1, 1)
    assert Accuracy.of([0, 0], [1, 2]) == Accuracy(0, 0, 0)


def scores() -> list[Score]:
    def score(measure: str, language: str, style: str, value: float, group: str = "") -> Score:
        return Score(measure, language, style, group, 10, Accuracy(value, value, value))

    return [
        score("name", "en", "trained", 0.98),
        score("name", "zh", "trained", 0.95),
        score("name", "en", "twemoji", 0.5),
        score("name", "en", "openmoji", 0.3),
        score("name", "en", "trained", 0.1, group="Objects"),
        score("paint.chat", "en", "painted", 0.9),
        score("classifier", "", "trained", 0.97),
    ]


@pytest.mark.parametrize(
    ("required", "lowest", "is_met"),
    [
        ("name=0.95", 0.95, True),
        ("name=0.96", 0.95, False),
        ("name.en=0.98", 0.98, True),
        ("openmoji.name=0.31", 0.3, False),
        ("paint.chat.en=0.9", 0.9, True),
        ("classifier=0.97", 0.97, True),
        ("paint.chat.zh=0", None, False),
        ("nmae=0.5", None, False),
    ],
)
def test_a_requirement_is_for_every_score_of_its_name(required: str, lowest: float | None, is_met: bool) -> None:
    (outcome,) = check(Requirement.parse(required), scores())
    assert (outcome.lowest, outcome.is_met) == (lowest, is_met)


def test_requirements_are_parsed_from_one_text() -> None:
    assert Requirement.parse("name=0.97, side.zh=1") == (Requirement("name", 0.97), Requirement("side.zh", 1.0))
    for text in ("name", "name=", "=0.5", "name=97", "name=nan", "name=0.9,,"):
        with pytest.raises(argparse.ArgumentTypeError, match="no requirement"):
            Requirement.parse(text)


def test_a_share_is_never_shown_higher_than_it_is() -> None:
    assert (percent(0.97), percent(0.9699), percent(1.0), percent(0.29)) == ("97.0 %", "96.9 %", "100.0 %", "29.0 %")


def test_the_table_has_a_row_for_each_measure_and_style() -> None:
    lines = table(scores()[:4])
    assert len(lines) == 4
    assert lines[1].split()[:2] == ["name", "trained"]
    assert "98.0 %" in lines[1] and "95.0 %" in lines[1]
    assert lines[2].endswith("-")
