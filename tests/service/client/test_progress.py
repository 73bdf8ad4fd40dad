"""A bar for people, a line now and then for logs, nothing for programs."""

import io
import sys

import pytest

from service.client import progress as module
from service.client.progress import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_log_gets_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now_s = 100.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now_s)
    with progress("a house") as bar:
        for second in range(31):
            now_s = 100.0 + second
            if second < 8:
                bar.wait("place 3 in the queue")
            else:
                bar.update(second - 8, 50, "fine")
    assert capsys.readouterr().err.splitlines() == [
        "a house: place 3 in the queue",
        "a house: 2 of 50, 48 s left, fine",
        "a house: 7 of 50, 43 s left, fine",
        "a house: 12 of 50, 38 s left, fine",
        "a house: 17 of 50, 33 s left, fine",
        "a house: 22 of 50, 28 s left, fine",
    ]


def test_what_was_done_before_counts_for_no_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now_s = 0.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now_s)
    with progress("lines") as bar:
        bar.update(100, 200)
        now_s = 10.0
        bar.update(110, 200)
    assert capsys.readouterr().err == "lines: 110 of 200, 1:30 left\n"


def test_people_get_a_bar_that_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("NO_COLOR", raising=False)
    with progress("a \x1b]0;x\x07house") as bar:
        bar.wait("place 2 in the queue")
        bar.update(10, 50, "fine")
        with bar.pause():
            stream.write("PICTURE")
        bar.update(50, 50)
    drawn = stream.getvalue()
    assert "50/50" in drawn and "PICTURE" in drawn and "\x1b]0;" not in drawn
    assert drawn.rstrip().endswith("\x1b[2K"), "its line is cleared"


def test_programs_get_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("x", is_quiet=True) as bar:
        bar.wait("y")
        bar.update(1, 2)
        with bar.pause():
            pass
    assert capsys.readouterr() == ("", "")
