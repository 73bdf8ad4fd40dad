"""`viscpm conversations`: all that can be done with one, against a real service."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service.process import cli
from tests.service.client.conftest import Running

PICTURE = str(Path(__file__).parents[3] / "parity/images/image0.png")


def test_a_conversations_life(
    asked: Running, told: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = told("chat", PICTURE, "echo one")["conversation_id"]
    assert told("chat", "--conversation", first, "echo two")["conversation_id"] == first

    assert told("conversations", "rename", first, "Apples")["title"] == "Apples"
    [listed] = told("conversations", "list", "-n", "1")
    assert (listed["id"], listed["title"], listed["num_turns"], listed["has_image"]) == (first, "Apples", 2, True)
    assert cli.main(["conversations"]) == 0
    assert f"id={first}  title=Apples  turns=2  picture=yes  last used=" in capsys.readouterr().out
    assert cli.main(["conversations", "show", first]) == 0
    assert capsys.readouterr().out == "# Apples\n\n> echo one\n\none\n\n> echo two\n\ntwo\n"

    assert cli.main(["conversations", "regenerate", first, "--seed", "3"]) == 0
    assert capsys.readouterr().out == "two\n"
    branch = told("conversations", "branch", first, "--turn", "2", "--title", "Half")
    assert [turn["answer"] for turn in branch["turns"]] == ["one"]

    saved = tmp_path / "talk.json"
    assert cli.main(["conversations", "export", first, "-o", str(saved)]) == 0
    assert json.loads(saved.read_text()) == told("conversations", "export", first)
    assert cli.main(["conversations", "export", first, "-o", str(tmp_path / "talk.md")]) == 0
    assert (tmp_path / "talk.md").read_text().startswith("# Apples\n")
    assert cli.main(["conversations", "export", first, "-o", str(saved)]) == 1
    assert "is there already" in capsys.readouterr().err
    imported = told("conversations", "import", str(saved))
    assert imported["id"] != first and len(imported["turns"]) == 2

    assert told("conversations", "delete", first) == {"id": first, "deleted": True}
    assert cli.main(["conversations", "show", first]) == 1
    assert "404 conversation_not_found" in capsys.readouterr().err
    assert first not in [one["id"] for one in told("conversations", "-n", "1000")]


def test_pages_are_read_to_the_end(asked: Running, told: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    made = [told("chat", f"echo {number}")["conversation_id"] for number in range(3)]
    monkeypatch.setattr("service.client.commands.conversations._PAGE", 2)
    assert [one["id"] for one in told("conversations", "-n", "3")] == made[::-1]


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        (None, 1, "No such file"),
        ("{", 2, "is no JSON"),
        ('{"turns": 3}', 1, "400 invalid_request: turns"),
    ],
)
def test_a_wrong_file_is_one_line(
    asked: Running, tmp_path: Path, content: str | None, code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "talk.json"
    if content is not None:
        file.write_text(content)
    assert cli.main(["conversations", "import", str(file)]) == code
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
