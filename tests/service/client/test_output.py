"""Plain lines for pipes, tables for people, JSON for programs; no escape sequence of anybody's text on a terminal."""

import builtins
import io
import json
import sys
from typing import Any

import pytest

from service.client import output
from service.client.exit_codes import CommandError, ExitCode

ROWS = [{"id": "a", "title": "红苹果", "turns": 2, "gone": ""}, {"id": "b", "title": None, "turns": 0, "gone": ""}]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """The standard output from now on; in a fixture pytest would put its own one back."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("NO_COLOR", raising=False)
    stream = Terminal()
    monkeypatch.setattr(sys, "stdout", stream)
    return stream


def test_rows_are_lines_for_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    output.say_rows(ROWS, False, "nothing")
    assert capsys.readouterr().out == "id=a  title=红苹果  turns=2\nid=b\n"
    output.say_rows([], False, "nothing")
    assert capsys.readouterr() == ("", "nothing\n")


def test_rows_are_an_array_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    output.say_rows(ROWS, True, "nothing")
    assert json.loads(capsys.readouterr().out) == ROWS
    output.say_rows([], True, "nothing")
    assert capsys.readouterr() == ("[]\n", "")


def test_rows_are_a_table_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = terminal(monkeypatch)
    output.say_rows(ROWS, False, "nothing")
    drawn = stream.getvalue()
    assert "title" in drawn and "红苹果" in drawn and "turns=2" not in drawn
    assert "gone" not in drawn, "a column in which nothing stands"


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_who_wants_it_plain_gets_it_plain(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    stream = terminal(monkeypatch)
    monkeypatch.setenv(name, value)
    output.say_rows(ROWS, False, "nothing")
    assert stream.getvalue().startswith("id=a  title=红苹果")


def test_without_rich_it_is_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = terminal(monkeypatch)

    def without_rich(name: str, *rest: Any, **named: Any) -> Any:
        if name.partition(".")[0] == "rich":
            raise ImportError(name)
        return real(name, *rest, **named)

    real = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", without_rich)
    output.say_rows(ROWS, False, "nothing")
    assert stream.getvalue().startswith("id=a  title=红苹果")


def test_no_text_moves_the_cursor_of_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = terminal(monkeypatch)
    hostile = "a\x1b]0;title\x07b\x9b2Jc\rd\n\te"
    output.say(hostile)
    assert stream.getvalue() == "a\\x1b]0;title\\x07b\\x9b2Jc\\x0dd\n\te\n"
    stream.truncate(0)
    output.say_rows([{"id": "x", "title": hostile}], False, "")
    drawn = stream.getvalue().replace("\x1b[1m", "").replace("\x1b[0m", "")
    assert "\x1b]" not in drawn and "\x9b" not in drawn and "\x07" not in drawn


def test_a_pipe_gets_texts_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    output.say("a\x1bb")
    assert capsys.readouterr().out == "a\x1bb\n"


def test_an_error_is_one_line_with_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    error = CommandError("503 no_worker: none", ExitCode.BUSY, code="no_worker", status=503)
    assert output.refuse(error) == 6
    assert capsys.readouterr().err == "viscpm: 503 no_worker: none\n"
    assert output.refuse(error, as_json=True) == 6
    told = json.loads(capsys.readouterr().err)
    assert told == {"error": {"message": "503 no_worker: none", "code": "no_worker", "status": 503}, "exit_code": 6}
    assert output.fail("no", 2) == 2
    assert capsys.readouterr().err == "viscpm: no\n"


@pytest.mark.parametrize(("span_s", "told"), [(0.4, "0 s"), (59, "59 s"), (60, "1:00"), (200.4, "3:20")])
def test_a_span_is_told_as_people_say_it(span_s: float, told: str) -> None:
    assert output.span_text(span_s) == told


def test_no_time_is_told_as_nothing() -> None:
    assert output.time_text(None) == ""
    assert len(output.time_text(1_795_904_380)) == len("2026-11-30 00:00:00")
