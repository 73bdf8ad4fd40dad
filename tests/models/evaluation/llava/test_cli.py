"""`viscpm evaluate llava`: flags, what they become, and what is refused."""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Request

from models.evaluation import cli
from models.evaluation.cli import main
from models.evaluation.llava.cli import SETTINGS, add_arguments
from models.jobs import ChatGeneration
from tests.models.evaluation.lines import read_lines, write_lines

ANSWER = ["answer", "--questions", "q.jsonl", "--images", "pictures", "--output", "answers.jsonl"]


def parse(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(arguments)


def test_settings_are_those_of_the_service() -> None:
    options = parse(*ANSWER, "--checkpoint", "chat")
    asked = {name: getattr(options, name) for name in SETTINGS}
    assert ChatGeneration(**asked) == ChatGeneration()
    options = parse(*ANSWER, "--url", "http://x", "--num-beams", "1", "--temperature", "0.5", "--length-penalty", "2")
    assert (options.num_beams, options.temperature, options.length_penalty) == (1, 0.5, 2.0)
    assert isinstance(options.num_beams, int) and isinstance(options.length_penalty, float)


def test_files_are_paths_and_the_rest_has_defaults() -> None:
    options = parse(*ANSWER, "--checkpoint", "chat")
    assert (options.questions, options.images, options.output) == (
        Path("q.jsonl"),
        Path("pictures"),
        Path("answers.jsonl"),
    )
    assert (options.device, options.dtype, options.batch_size, options.concurrency) == ("cpu", "float32", 8, 4)
    assert (options.url, options.model_id, options.vocabulary, options.api_key_env) == (None, None, None, "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "the following arguments are required: STEP"),
        (ANSWER, "one of the arguments --checkpoint --url is required"),
        ([*ANSWER, "--checkpoint", "a", "--url", "b"], "not allowed with argument"),
        ([*ANSWER, "--url", "b", "--concurrency", "0"], "'0'; a whole number from 1 on is expected"),
        ([*ANSWER, "--checkpoint", "a", "--dtype", "int8"], "invalid choice: 'int8'"),
        (["table"], "--reviews"),
        (["table", "--reviews", "r.jsonl", "--resamples", "no"], "'no'; a whole number from 1 on"),
        (["judge", "--questions", "q"], "--reference, --answers, --captions, --rules, --endpoint, --model, --output"),
    ],
)
def test_wrong_flags_are_2(capsys: pytest.CaptureFixture[str], arguments: list[str], said: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["llava", *arguments])
    assert stopped.value.code == 2
    assert said in " ".join(capsys.readouterr().err.split())


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line of a run that ends with 1."""
    assert main(["llava", *arguments]) == 1
    shown = capsys.readouterr()
    (line,) = shown.err.splitlines()
    assert shown.out == "" and line.startswith("viscpm evaluate llava: ")
    return line


def test_missing_files_are_named_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "q.jsonl" in refused(capsys, *ANSWER, "--checkpoint", "chat")
    assert "r.jsonl" in refused(capsys, "table", "--reviews", "r.jsonl")
    write_questions(tmp_path)
    assert "pictures: no folder of pictures" in refused(capsys, *ANSWER, "--checkpoint", "chat")


def write_questions(folder: Path) -> None:
    lines = [{"question_id": 3, "image": "a.png", "text": "什么？", "category": "conv"}]
    write_lines(folder / "q.jsonl", lines)


def test_nothing_is_written_where_the_checkpoint_or_the_key_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NO_KEY", raising=False)
    write_questions(tmp_path)
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").write_bytes(b"")
    assert "chat: no such file or folder" in refused(capsys, *ANSWER, "--checkpoint", "chat")
    key = ["--url", "http://127.0.0.1:9", "--api-key-env", "NO_KEY"]
    assert "the variable NO_KEY, which --api-key-env names, is not set" in refused(capsys, *ANSWER, *key)
    assert not (tmp_path / "answers.jsonl").exists()


@dataclass
class Service:
    """Answers every question with its own number of beams, and keeps what it was asked and shown."""

    app: FastAPI
    asked: list[dict[str, Any]]
    keys: list[str | None]


@pytest.fixture
def service() -> Service:
    made = Service(FastAPI(), [], [])

    @made.app.post("/chat")
    async def chat(request: Request) -> dict[str, Any]:
        body = await request.json()
        made.asked.append(body)
        made.keys.append(request.headers.get("Authorization"))
        return {"id": "j", "answer": f"{body['num_beams']}", "finish_reason": "stop"}

    return made


def test_flags_reach_the_service_and_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serve: Callable[[FastAPI], str], service: Service
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOME_KEY", "sesame")
    write_questions(tmp_path)
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").write_bytes(b"pixels")
    flags = ["--url", serve(service.app), "--model-id", "mine", "--num-beams", "5", "--api-key-env", "SOME_KEY"]
    assert main(["llava", *ANSWER, *flags]) == 0
    (asked,) = service.asked
    assert {name: asked[name] for name in SETTINGS} == {
        "num_beams": 5,
        "max_new_tokens": 514,
        "repetition_penalty": 1.1,
        "length_penalty": 3.0,
        "temperature": 0.7,
    }
    assert service.keys == ["Bearer sesame"]
    (line,) = read_lines(tmp_path / "answers.jsonl")
    assert (line["question_id"], line["text"], line["model_id"]) == (3, "5", "mine")


def review(model: str, score: float) -> dict[str, Any]:
    who = {"model_id": model, "judge": "j", "order": "reference_first", "content": ""}
    return {**who, "question_id": 1, "category": "conv", "reference_score": 8, "model_score": score}


def test_the_table_has_a_row_for_each_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [
        str(write_lines(tmp_path / f"{name}.jsonl", [review(name, score)])) for name, score in (("a", 4), ("b", 6))
    ]
    output = tmp_path / "deep" / "table.json"
    assert main(["llava", "table", "--reviews", *files, "--resamples", "10", "--output", str(output)]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in shown[:3]] == ["model", "a", "b"]
    rows = json.loads(output.read_text())
    assert [row["categories"]["average"]["percent"] for row in rows] == [50.0, 75.0]
    assert main(["llava", "table", "--reviews", *files, "--resamples", "10", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == rows


def test_it_is_the_command_of_its_name() -> None:
    assert cli.COMMANDS["llava"].module == add_arguments.__module__
