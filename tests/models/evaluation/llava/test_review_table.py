"""The table that reviews come to."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.evaluation.cli import main
from models.evaluation.errors import EvaluationError
from models.evaluation.llava.review_table import tabulate
from tests.models.evaluation.lines import write_lines


def review(question: int, category: str, reference: float | None, model: float | None) -> dict[str, Any]:
    who = {"model_id": "m1", "judge": "j", "order": "reference_first", "content": ""}
    return {**who, "question_id": question, "category": category, "reference_score": reference, "model_score": model}


@pytest.mark.slow
def test_the_table_holds_ratios_of_sums_with_intervals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    pairs = {name: rng.integers(1, 11, (30, 2)).astype(float) for name in ("detail", "conv", "complex")}
    lines = [
        review(100 * place + i, name, *pair)
        for place, (name, points) in enumerate(pairs.items())
        for i, pair in enumerate(points.tolist())
    ]
    path = write_lines(tmp_path / "reviews.jsonl", lines)
    assert main(["llava", "table", "--reviews", str(path), "--json", "--output", str(tmp_path / "table.json")]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert json.loads((tmp_path / "table.json").read_text()) == [row]
    assert list(row["categories"]) == ["conversation", "detail", "complex", "average"]
    conversation = row["categories"]["conversation"]
    sums = pairs["conv"].sum(axis=0)
    assert conversation["percent"] == pytest.approx(100 * sums[1] / sums[0], abs=0.01)
    low, high = conversation["interval_95"]
    assert low < conversation["percent"] < high
    # The normal approximation of a ratio of means
    ratio, means = sums[1] / sums[0], pairs["conv"].mean(axis=0)
    spread = np.std(pairs["conv"][:, 1] - ratio * pairs["conv"][:, 0]) / np.sqrt(30) / means[0]
    assert high - low == pytest.approx(100 * 2 * 1.96 * spread, rel=0.2)
    everything = np.concatenate(list(pairs.values())).sum(axis=0)
    assert row["categories"]["average"]["percent"] == pytest.approx(100 * everything[1] / everything[0], abs=0.01)

    assert main(["llava", "table", "--reviews", str(path)]) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0].split() == ["model", "conversation", "detail", "complex", "average"]
    assert table[1].startswith("m1") and f"{conversation['percent']:.1f} [" in table[1]


def test_a_table_without_scores_is_refused() -> None:
    with pytest.raises(EvaluationError, match="none of its 1 reviews has scores"):
        tabulate([review(0, "conv", None, None)], "reviews", 10, 0)
    with pytest.raises(EvaluationError, match="2 pairs of model and judge"):
        tabulate([review(0, "conv", 1, 1), {**review(1, "conv", 1, 1), "judge": "k"}], "reviews", 10, 0)
