"""`viscpm bench`: figures of a real service that hold together, errors told, and nothing left behind."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service.client.commands.bench import percentiles
from service.process import cli
from tests.service.client.conftest import Running

PICTURE = str(Path(__file__).parents[3] / "parity/images/image0.png")


def conversations(service: Running) -> list[str]:
    return [one["id"] for one in service.get("/conversations?limit=100")["data"]]


def test_tokens_a_second_and_how_long_one_waits(asked: Running, told: Callable[..., Any]) -> None:
    tokens = told("chat", PICTURE, "stream 10")["usage"]["completion_tokens"]
    before = conversations(asked)
    report = told("bench", "chat", "-c", "3", "-d", "0.5", "--question", "stream 10", "--image", PICTURE)
    answered, took_s = report["answered"], report["took_s"]
    assert (report["checkpoint"], report["concurrency"], report["errors"]) == ("scripted", 3, {})
    assert answered >= 3 and took_s >= 0.5
    assert report["requests_per_s"] == pytest.approx(answered / took_s, rel=0.01)
    assert report["tokens_per_s"] == pytest.approx(tokens * answered / took_s, rel=0.01)
    first_s, whole_s = report["first_s"], report["whole_s"]
    assert 0 < first_s["p50"] < whole_s["p50"] <= whole_s["p90"] <= whole_s["p99"] <= whole_s["max"]
    assert whole_s["p50"] > 0.2, "ten steps of 20 ms"
    assert conversations(asked) == before, "what it made is deleted"


def test_pictures_a_second(asked: Running, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "paint", "-c", "2", "-d", "0.3", "--prompt", "paint 3", "-n", "2"]) == 0
    line, first, whole = capsys.readouterr().out.splitlines()
    assert line.startswith("painter: ") and " pictures/s, " in line and "2 at once" in line
    assert first.startswith("seconds to=first step  p50=") and whole.startswith("seconds to=whole answer  p50=")


def test_errors_are_counted(asked: Running, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "chat", "-c", "1", "-d", "0.2", "--question", "reject"]) == 1
    told = capsys.readouterr()
    assert "0 answers in" in told.out and "x context_length_exceeded" in told.out
    assert told.err.splitlines()[-1].startswith("viscpm: no request was answered: ")


def test_percentiles_are_of_the_times_that_there_are() -> None:
    assert percentiles([]) == {}
    assert percentiles([3.0]) == {"p50": 3.0, "p90": 3.0, "p99": 3.0, "max": 3.0}
    hundred = [float(number) for number in range(100, 0, -1)]
    assert percentiles(hundred) == {"p50": 50.0, "p90": 90.0, "p99": 99.0, "max": 100.0}
