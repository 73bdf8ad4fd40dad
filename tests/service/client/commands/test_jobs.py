"""`viscpm jobs`: list, show, follow and cancel, against a real service."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service.client.connection import Service
from service.client.events import begin
from service.process import cli
from tests.service.client.conftest import Running


def test_a_jobs_life(
    asked: Running, told: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Service(asked.api.url, asked.key) as service:
        long = begin(service, "/chat", {"question": "stream 3000"})
        short = begin(service, "/chat", {"question": "stream 4"})
        painting = begin(service, "/paint", {"prompt": "paint 4", "n": 2, "seed": 5})

    assert cli.main(["jobs", "follow", short]) == 0
    assert capsys.readouterr().out == "w0 w1 w2 w3 \n"
    assert cli.main(["jobs", "follow", painting, "-o", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines() == [f"{tmp_path}/{seed}.png (seed {seed})" for seed in (5, 6)]
    assert told("jobs", "show", long)["state"] == "running"
    assert cli.main(["jobs", "cancel", long]) == 0
    assert capsys.readouterr().out == f"{long} is cancelled\n"

    listed = told("jobs", "-n", "3")
    assert [(job["id"], job["state"]) for job in listed] == [(painting, "done"), (short, "done"), (long, "cancelled")]
    assert told("jobs", "list", "--limit", "1") == listed[:1]
    assert cli.main(["jobs"]) == 0
    assert f"id={short}  kind=chat  state=done  created=" in capsys.readouterr().out

    assert cli.main(["jobs", "show", short]) == 0
    assert capsys.readouterr().out.splitlines()[1] == "w0 w1 w2 w3 "
    assert cli.main(["jobs", "show", painting]) == 0
    assert f"a picture of seed 6: viscpm jobs follow {painting} -o DIR" in capsys.readouterr().out
    assert cli.main(["jobs", "show", long]) == 0
    assert "cancelled: " in capsys.readouterr().out
    assert cli.main(["jobs", "follow", long]) == 1
    assert "cancelled: " in capsys.readouterr().err


def test_pages_are_read_to_the_end(asked: Running, told: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    with Service(asked.api.url, asked.key) as service:
        made = [begin(service, "/chat", {"question": f"echo {number}"}) for number in range(5)]
    monkeypatch.setattr("service.client.commands.jobs._PAGE", 2)
    assert [job["id"] for job in told("jobs", "-n", "5")] == made[::-1]


def test_what_is_not_there_is_one_line_for_people_and_for_programs(
    asked: Running, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in ("show", "follow", "cancel"):
        assert cli.main(["jobs", command, "chat-none"]) == 1
        told = capsys.readouterr()
        assert told.out == "" and told.err.startswith("viscpm: 404 job_not_found: ") and told.err.count("\n") == 1
    assert cli.main(["jobs", "show", "chat-none", "--json"]) == 1
    error = json.loads(capsys.readouterr().err)
    assert (error["error"]["code"], error["error"]["status"], error["exit_code"]) == ("job_not_found", 404, 1)
