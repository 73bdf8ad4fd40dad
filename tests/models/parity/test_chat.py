"""The check of Chat: passes on the reference's answers, and names what is off; fragile rows by their score alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from models.jobs import ChatGeneration
from models.parity.chat import CHECKS, FRAGILE_MARGIN, SCORE_LIMIT, find_prompt, generation_of, report_scores
from models.parity.fixtures import Fixtures
from tests.models.parity.reference import REFERENCE, Recorded, change_json, change_tensor, copy_reference, run_checks

CPU = torch.device("cpu")
SET = "greedy_like"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The reference with one short set of searches, and one conversation of two turns."""

    def one_set(content: Any) -> None:
        for name in set(content) - {SET}:
            del content[name]
        content[SET]["rows"] = content[SET]["rows"][:4]

    result = copy_reference(tmp_path / "some")
    change_json(result / "beam.json", one_set)
    change_json(result / "chat_two_turn.json", lambda content: content.update(chats=content["chats"][:1]))
    return result


def rows_of(content: Any) -> Any:
    return content[SET]["rows"]


@pytest.mark.slow
def test_searches_equal_the_references(folder: Path) -> None:
    report = run_checks(CHECKS, folder, "beam.json")
    assert report.failed == []
    assert report.passed == [
        f"beam {SET}: {quantity}"
        for quantity in (
            "best ids, 4 rows",
            "hypotheses, 4 rows",
            "text, 4 rows",
            "model calls, 4 rows",
            "best score, 4 rows",
            "hypotheses' scores",
        )
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "failed"),
    [
        (lambda row: row["best_ids"].__setitem__(0, 5), ["best ids, 4 rows"]),
        (lambda row: row["hyps"][0]["ids"].__setitem__(1, 5), ["hypotheses, 4 rows"]),
        (lambda row: row.update(text=row["text"] + "!"), ["text, 4 rows"]),
        (lambda row: row.update(inference_calls=row["inference_calls"] + 1), ["model calls, 4 rows"]),
        (lambda row: row.update(best_score=row["best_score"] * 1.001 - 0.01), ["best score, 4 rows"]),
        (lambda row: row["hyps"][0].update(score=9.0), ["hypotheses' scores"]),
    ],
)
def test_what_is_off_in_one_row_fails_its_line(
    folder: Path, change: Callable[[Any], object], failed: list[str]
) -> None:
    change_json(folder / "beam.json", lambda content: change(rows_of(content)[2]))
    assert run_checks(CHECKS, folder, "beam.json").failed == [f"beam {SET}: {quantity}" for quantity in failed]


@pytest.mark.slow
def test_of_a_fragile_row_the_score_alone_is_judged(folder: Path) -> None:
    def spoil(content: Any) -> None:
        rows_of(content)[1].update(fragile=True, text="another", inference_calls=0)

    change_json(folder / "beam.json", spoil)
    report = run_checks(CHECKS, folder, "beam.json")
    assert report.failed == [] and f"beam {SET}: text, 3 rows" in report.passed
    change_json(folder / "beam.json", lambda content: rows_of(content)[1].update(best_score=-99.0))
    assert run_checks(CHECKS, folder, "beam.json").failed == [f"beam {SET}: best score, 4 rows"]


@pytest.mark.slow
def test_in_half_precision_equal_answers_are_counted_and_nothing_is_judged(folder: Path) -> None:
    report = run_checks(CHECKS, folder, "beam.json", "chat_two_turn.json", dtype=torch.bfloat16)
    assert (report.failed, report.passed, report.noted) == ([], [], [f"beam {SET}: best ids equal"])
    report = run_checks(CHECKS, REFERENCE, "batch.json", dtype=torch.bfloat16)
    assert (report.failed, report.passed, report.noted) == ([], [], ["batch: best ids equal"])


@pytest.mark.slow
def test_a_batch_answers_as_the_reference_and_as_alone(tmp_path: Path) -> None:
    folder = copy_reference(tmp_path / "wrong")
    assert run_checks(CHECKS, folder, "batch.json").failed == []
    change_json(folder / "batch.json", lambda content: content["results"][1].update(text="another"))
    change_tensor(folder / "batch.safetensors", "prefill_hidden")
    assert run_checks(CHECKS, folder, "batch.json").failed == ["batch: prefill_hidden", "batch: text"]


@pytest.mark.slow
def test_two_turns_are_compared_by_answer_calls_and_context(folder: Path) -> None:
    report = run_checks(CHECKS, folder, "chat_two_turn.json")
    assert report.failed == [] and len(report.passed) + 3 * len(report.noted) == 6

    def spoil(content: Any) -> None:
        first, second = (content["chats"][0][turn] for turn in ("turn1", "turn2"))
        first.update(calls=first["calls"] + 1, min_margin=1.0)
        second.update(min_margin=FRAGILE_MARGIN / 2, context="another")

    change_json(folder / "chat_two_turn.json", spoil)
    report = run_checks(CHECKS, folder, "chat_two_turn.json")
    assert report.failed == ["two turns, chat 0 turn1: model calls"]
    assert report.noted == ["two turns, chat 0 turn2: answer"], "near ties decide, so nothing is judged"


@pytest.mark.slow
def test_the_references_float16_answers_are_counted_in_float16_alone(tmp_path: Path) -> None:
    folder = copy_reference(tmp_path / "some")
    for file, part in (("half.json", None), ("beam.json", "published_short")):

        def shorten(content: Any, part: str | None = part) -> None:
            if part is None:
                content["beam_published_short"] = content["beam_published_short"][:2]
            else:
                content[part]["hyperparameters"]["max_length"] = 6

        change_json(folder / file, shorten)
    report = run_checks(CHECKS, folder, "half.json", dtype=torch.float16)
    assert (report.failed, report.passed, report.noted) == ([], [], ["half: beam answers equal"])
    assert run_checks(CHECKS, folder, "half.json").noted == []


def test_hyperparameters_of_the_reference_are_ours() -> None:
    """Its `max_length` counts neither the first token nor the final eos (SPEC §7)."""
    fields = {"beam_size": 2, "max_length": 20, "temperature": 1.3, "repetition_penalty": 1.3, "length_penalty": 0.0}
    expected = ChatGeneration(
        max_new_tokens=22, num_beams=2, temperature=1.3, repetition_penalty=1.3, length_penalty=0.0
    )
    assert generation_of(fields) == expected
    assert generation_of(fields | {"repetition_window": 4}).repetition_window == 4


def test_a_prompt_is_found_by_its_number_in_whatever_set_it_is() -> None:
    fixtures = Fixtures(REFERENCE, CPU, torch.float32)
    assert find_prompt(fixtures, 0)["question"] == "What is in the image?"
    with pytest.raises(ValueError, match=r"^beam\.json has no prompt 10000$"):
        find_prompt(fixtures, 10_000)


@pytest.mark.parametrize(
    ("score", "expected", "ids", "length_penalty", "is_close"),
    [
        (-2.0, -2.0, [1, 2], 1.0, True),
        (-2.0 * (1 + SCORE_LIMIT / 2), -2.0, [1], 0.0, True),
        (-2.0 * (1 + SCORE_LIMIT * 2), -2.0, [1], 0.0, False),
        # A sum of log-probabilities of 0.01 x 2 = 0.02: relative to 1, not to 0.02
        (-0.01001, -0.01, [1, 2], 1.0, True),
        (-0.0101, -0.01, [1, 2], 1.0, False),
        # 3 tokens and a length penalty of 3: the sum behind a score of 0.1 is 2.7
        (-0.1 * (1 + SCORE_LIMIT * 2), -0.1, [1, 2, 3], 3.0, False),
    ],
)
def test_scores_are_relative_to_themselves_or_to_a_sum_of_1(
    score: float, expected: float, ids: list[int], length_penalty: float, is_close: bool
) -> None:
    report = Recorded()
    report_scores("x", [(-1.0, -1.0, [1]), (score, expected, ids)], length_penalty, report)
    assert (report.passed if is_close else report.failed) == ["x"]
