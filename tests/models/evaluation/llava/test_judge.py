"""Judgements: what the judge is told, what is read from its answers, and what its endpoint may do to us."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response

from models.evaluation.cli import main
from models.evaluation.llava.judge import ORDERS, REMINDER, SYSTEM_PROMPT, Order, parse_scores, read_cases
from models.evaluation.llava.questions import read_questions
from models.evaluation.llava.review_table import as_text, tabulate
from tests.models.evaluation.completions import Endpoint
from tests.models.evaluation.lines import write_lines

REFERENCE_DATA = Path(__file__).parents[5] / "shared" / "reference-data"


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    """A folder with a bench of three questions about one picture."""
    categories = ["conv", "detail", "complex"]
    write_lines(
        tmp_path / "questions.jsonl",
        [{"question_id": i, "image": "a.jpg", "text": f"问题{i}", "category": c} for i, c in enumerate(categories)],
    )
    write_lines(tmp_path / "reference.jsonl", [{"question_id": i, "text": f"reference {i}"} for i in range(3)])
    write_lines(
        tmp_path / "answers.jsonl", [{"question_id": i, "text": f"answer {i}", "model_id": "m1"} for i in range(3)]
    )
    instances = [{"category": "甜甜圈", "bbox": [0.1, 0.25, 0.5, 1.0]}]
    write_lines(tmp_path / "captions.jsonl", [{"image": "a.jpg", "captions": ["一句", "两句"], "instances": instances}])
    rules = {category: {"role": "Assistant", "prompt": f"judge {category}"} for category in categories}
    (tmp_path / "rules.json").write_text(json.dumps(rules))
    return tmp_path


def judge_arguments(bench: Path, url: str, *more: str) -> list[str]:
    files = {"questions": "questions.jsonl", "reference": "reference.jsonl", "answers": "answers.jsonl"}
    files |= {"captions": "captions.jsonl", "rules": "rules.json", "output": "reviews.jsonl"}
    flags = [part for name, file in files.items() for part in (f"--{name}", str(bench / file))]
    return ["llava", "judge", *flags, "--endpoint", f"{url}/v1", "--model", "judge-1", "--concurrency", "1", *more]


def reviews(bench: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (bench / "reviews.jsonl").read_text(encoding="utf-8").splitlines()]


def test_the_judge_is_told_context_question_and_both_answers(bench: Path, serve: Callable[[FastAPI], str]) -> None:
    endpoint = Endpoint("8 7\n因为…", "9 9", "10 5.5")
    assert main(judge_arguments(bench, serve(endpoint.app))) == 0
    first = endpoint.requests[0]
    assert (first["model"], first["temperature"]) == ("judge-1", 0)
    assert first["messages"][0] == {"role": "system", "content": SYSTEM_PROMPT}
    assert first["messages"][1]["content"] == (
        "[Context]\n一句\n两句\n\n甜甜圈: [0.1, 0.25, 0.5, 1.0]\n\n[Question]\n问题0\n\n"
        "[Assistant 1]\nreference 0\n\n[End of Assistant 1]\n\n[Assistant 2]\nanswer 0\n\n[End of Assistant 2]\n\n"
        "[System]\njudge conv\n\n"
    )
    found = reviews(bench)
    assert [(line["reference_score"], line["model_score"]) for line in found] == [(8, 7), (9, 9), (10, 5.5)]
    assert found[0]["content"] == "8 7\n因为…"


@pytest.mark.slow
def test_swapped_orders_give_each_answer_its_own_score(bench: Path, serve: Callable[[FastAPI], str]) -> None:
    endpoint = Endpoint(*["8 6", "5 9"] * 3)
    assert main(judge_arguments(bench, serve(endpoint.app), "--swap")) == 0
    assert "[Assistant 1]\nanswer 0\n" in endpoint.requests[1]["messages"][1]["content"]
    scores = [(line["order"], line["reference_score"], line["model_score"]) for line in reviews(bench)]
    assert scores[:2] == [("reference_first", 8, 6), ("model_first", 9, 5)]
    row = tabulate(reviews(bench), "reviews", resamples=50, seed=0)
    assert row.cells["average"].percent == pytest.approx(100 * 5.5 / 8.5)
    assert row.cells["average"].questions == 3
    assert row.position_bias == pytest.approx(1.0)


@pytest.mark.slow
def test_a_judgement_without_scores_is_asked_for_once_more_and_then_reported(
    bench: Path, serve: Callable[[FastAPI], str], capsys: pytest.CaptureFixture[str]
) -> None:
    endpoint = Endpoint("I prefer the first, 8 of 10.", "8 7", "Both fine.", "Still fine.", "7 7")
    url = serve(endpoint.app)
    assert main(judge_arguments(bench, url)) == 1
    assert "question 1 (reference_first): no readable scores in two answers" in capsys.readouterr().err
    retried = endpoint.requests[1]["messages"]
    assert retried[2:] == [
        {"role": "assistant", "content": "I prefer the first, 8 of 10."},
        {"role": "user", "content": REMINDER},
    ]
    found = [(line["question_id"], line["attempt"], line["model_score"]) for line in reviews(bench)]
    assert found == [(0, 1, None), (0, 2, 7), (1, 1, None), (1, 2, None), (2, 1, 7)]

    assert main(judge_arguments(bench, url)) == 1, "still missing, and said so"
    assert len(endpoint.requests) == 5, "but not asked a third time"
    row = tabulate(reviews(bench), "reviews", resamples=50, seed=0)
    assert row.unscored == [(1, "reference_first")]
    assert "detail" not in row.cells
    assert "left out, without readable scores: 1 (reference_first)" in as_text([row])


@pytest.mark.slow
def test_busy_and_broken_endpoints_are_asked_again(
    bench: Path, serve: Callable[[FastAPI], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUDGE_KEY", "sesame")
    busy = JSONResponse({"error": {"message": "slow down"}}, 429, {"Retry-After": "0"})
    broken = Response("oops", 500, {"Retry-After": "0"})
    endpoint = Endpoint(busy, broken, "8 8", "8 8", "8 8")
    assert main(judge_arguments(bench, serve(endpoint.app), "--api-key-env", "JUDGE_KEY")) == 0
    assert len(endpoint.requests) == 5
    assert set(endpoint.keys) == {"Bearer sesame"}


@pytest.mark.slow
def test_a_refusal_of_all_stops_at_once_and_a_second_run_goes_on(
    bench: Path, serve: Callable[[FastAPI], str], capsys: pytest.CaptureFixture[str]
) -> None:
    endpoint = Endpoint("8 7", JSONResponse({"error": {"message": "bad key"}}, 401), "8 8", "9 9")
    url = serve(endpoint.app)
    assert main(judge_arguments(bench, url)) == 1
    assert "401 bad key" in capsys.readouterr().err
    with (bench / "reviews.jsonl").open("a") as file:
        file.write('{"question_id": 1, "cat')
    assert main(judge_arguments(bench, url)) == 0
    assert [line["question_id"] for line in reviews(bench)] == [0, 1, 2]
    with pytest.raises(SystemExit):
        main(["llava", "judge"])


def test_one_failing_case_leaves_the_others(
    bench: Path, serve: Callable[[FastAPI], str], capsys: pytest.CaptureFixture[str]
) -> None:
    endpoint = Endpoint(JSONResponse({"error": {"message": "too long"}}, 400), "8 8", "9 9")
    assert main(judge_arguments(bench, serve(endpoint.app))) == 1
    assert "question 0 (reference_first)" in capsys.readouterr().err
    assert [line["question_id"] for line in reviews(bench)] == [1, 2]


def test_reviews_of_two_judges_never_share_a_file(
    bench: Path, serve: Callable[[FastAPI], str], capsys: pytest.CaptureFixture[str]
) -> None:
    url = serve(Endpoint("8 8", "8 8", "8 8").app)
    assert main(judge_arguments(bench, url)) == 0
    arguments = judge_arguments(bench, url)
    arguments[arguments.index("judge-1")] = "judge-2"
    assert main(arguments) == 1
    assert "reviews of m1 by judge-1; these would be of m1 by judge-2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "scores"),
    [
        ("8 7", (8, 7)),
        ("\n\n**8, 7.5**\n因为 1 2", (8, 7.5)),
        ("8/10 7/10", (8, 7)),
        ("8分 7分", (8, 7)),
        ("助理1：8分，助理2：10分", (8, 10)),
        ("Assistant 1: 8.0, Assistant 2: 7", (8, 7)),
        ("８　７", (8, 7)),
        ("评分：8 7", (8, 7)),
        ("8 and 7", (8, 7)),
    ],
)
def test_clear_scores_are_read(text: str, scores: tuple[float, float]) -> None:
    assert parse_scores(text) == scores


@pytest.mark.parametrize(
    "text",
    [
        "",
        "8",
        "8 11",
        "0 5",
        "8 7 6",
        "I give 8 to the first and 7 to the second",
        "助理2：7 助理1：8",
        "2023 7",
        "-8 7",
        "8\n7",
    ],
)
def test_unclear_scores_are_not_guessed(text: str) -> None:
    assert parse_scores(text) is None


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("answers.jsonl", '{"question_id": 0, "text": "x"}\n', "has nothing for 1, which question 1 needs"),
        ("reference.jsonl", '{"question_id": 0}\n', "line 1: text must be text, got nothing"),
        ("captions.jsonl", '{"image": "b.jpg", "captions": [], "instances": []}\n', "has nothing for 'a.jpg'"),
        ("captions.jsonl", '{"image": "a.jpg", "captions": [], "instances": [{}]}\n', "not as expected: 'category'"),
        ("rules.json", '{"conv": {"role": "A"}}', "the rule of 'conv' needs a role and a prompt"),
        ("rules.json", "{}", "has nothing for 'conv'"),
    ],
)
def test_gaps_in_the_files_are_named(
    bench: Path, capsys: pytest.CaptureFixture[str], file: str, text: str, said: str
) -> None:
    (bench / file).write_text(text)
    assert main(judge_arguments(bench, "http://127.0.0.1:9")) == 1
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("orders", [ORDERS[:1], ORDERS])
def test_the_real_bench_makes_complete_cases(tmp_path: Path, orders: tuple[Order, ...]) -> None:
    if not REFERENCE_DATA.is_dir():
        pytest.skip("reference data: the release's bench is not here (../shared/reference-data)")
    questions = read_questions(REFERENCE_DATA / "qa90_questions_zh.jsonl")
    answers = write_lines(tmp_path / "answers.jsonl", [{"question_id": q.id, "text": "是。"} for q in questions])
    cases = read_cases(
        questions,
        REFERENCE_DATA / "qa90_gpt4_answer_zh.jsonl",
        answers,
        REFERENCE_DATA / "caps_boxes_coco2014_val_80_zh.jsonl",
        REFERENCE_DATA / "rule_zh.json",
        orders,
    )
    assert len(cases) == 90 * len(orders)
    assert cases[0].model_id == "answers"
    assert "请首先输出只有两个值的一行" in cases[0].prompt()
