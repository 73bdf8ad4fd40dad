"""`viscpm chat`: one question, a talk by a pipe, and a talk as a person holds it, on a terminal."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from service.client.commands.chat import _words, parser
from service.process import cli
from tests.service.client.conftest import Running

PICTURES = Path(__file__).parents[3] / "parity/images"
PICTURE, OTHER = str(PICTURES / "image0.png"), str(PICTURES / "image1.png")
COMMAND = [sys.executable, "-m", "service.process.cli", "chat"]


@pytest.mark.parametrize(
    ("arguments", "image", "question"),
    [
        ([PICTURE, "what?"], PICTURE, "what?"),
        ([PICTURE], PICTURE, ""),
        (["none.png"], "none.png", ""),
        (["https://example.org/x"], "https://example.org/x", ""),
        (["what?"], None, "what?"),
        (["what?", "--image", PICTURE], PICTURE, "what?"),
        ([PICTURE, "--seed", "1", "what?"], PICTURE, "what?"),
        ([], None, ""),
    ],
)
def test_a_word_is_a_picture_or_a_question(arguments: list[str], image: str | None, question: str) -> None:
    assert _words(parser().parse_intermixed_args(arguments)) == (image, question)


def test_one_question_is_answered_as_it_comes(asked: Running, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["chat", PICTURE, "stream 4", "--num-beams", "1"]) == 0
    assert capsys.readouterr() == ("w0 w1 w2 w3 \n", "")


def test_a_program_gets_the_whole_answer(asked: Running, told: Callable[..., Any]) -> None:
    answer = told("chat", PICTURE, "echo hello", "--seed", "3")
    assert (answer["answer"], answer["image"], answer["seed"]) == ("hello", True, 3)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["none.png", "x"], 1, "none.png: No such file or directory"),
        (["reject"], 1, "context_length_exceeded: too long"),
        (["a.png", "b", "--image", "c.png"], 2, "two pictures: a.png and --image c.png"),
        (["x", "--url", "http://127.0.0.1:9"], 4, "is `viscpm serve` running?"),
        (["x", "--url", "nowhere"], 2, "nowhere is no URL"),
        (["x", "--conversation", "conv-none"], 1, "conversation_not_found"),
        (["x", "--num-beams", "99"], 1, "400 invalid_request: num_beams"),
    ],
)
def test_what_is_wrong_is_one_line(
    asked: Running, arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["chat", *arguments]) == code
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_pipes_lines_are_questions(asked: Running, tmp_path: Path) -> None:
    lines = ["echo one", "", "reject", "/new", "echo two", "/save talk.json", "/nothing"]
    talk = subprocess.run(
        [*COMMAND, PICTURE],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        env=_env(),
    )
    assert talk.stdout == "one\ntwo\n"
    assert talk.stderr.splitlines() == [
        "context_length_exceeded: too long",
        "a new talk",
        "saved in talk.json",
        "/nothing is no command: /image, /new, /save, /help and /quit are",
    ]
    assert talk.returncode == 1, "of the first that failed"
    saved = json.loads((tmp_path / "talk.json").read_text())
    assert [turn["answer"] for turn in saved["turns"]] == ["two"] and saved["image"] is None


class Terminal:
    """A command on a pseudo-terminal, and what it has shown there."""

    def __init__(self, arguments: list[str], folder: Path) -> None:
        self._end, child = pty.openpty()
        variables = {**_env(), "TERM": "xterm-256color", "COLUMNS": "100"}
        self.process = subprocess.Popen(
            arguments, stdin=child, stdout=child, stderr=child, cwd=folder, env=variables, start_new_session=True
        )
        os.close(child)
        self._shown = ""

    def wait_for(self, pattern: str, limit_s: float = 60.0) -> str:
        """What was shown up to the pattern, which is looked for in what came after the last one."""
        ends_s = time.monotonic() + limit_s
        while not (match := re.search(pattern, self._shown)):
            assert time.monotonic() < ends_s, f"{pattern!r} is not in {self._shown!r}"
            if select.select([self._end], [], [], 0.5)[0]:
                try:
                    self._shown += os.read(self._end, 65536).decode(errors="replace").replace("\r\n", "\n")
                except OSError:  # the other end is closed
                    assert re.search(pattern, self._shown), f"{pattern!r} is not in {self._shown!r}"
        before, self._shown = self._shown[: match.end()], self._shown[match.end() :]
        return before

    def type(self, text: str) -> None:
        os.write(self._end, text.encode())

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._end)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """What is started by a job in the background ignores interrupts, and so would the processes of these tests."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def terminal(interruptible: None, asked: Running, tmp_path: Path) -> Iterator[Terminal]:
    opened = Terminal([*COMMAND, PICTURE], tmp_path)
    yield opened
    opened.close()


def test_a_person_holds_a_talk(terminal: Terminal, asked: Running, tmp_path: Path) -> None:
    terminal.wait_for("Ask away; /help tells")
    terminal.wait_for("> ")
    terminal.type("stream 3\n")
    terminal.wait_for("w0 w1 w2 \n")
    terminal.wait_for("> ")
    terminal.type("/help\n")
    assert "/image PATH" in terminal.wait_for("Ctrl-C stops an answer")

    # an answer is stopped, and the talk goes on
    terminal.wait_for("> ")
    terminal.type("stream 3000\n")
    terminal.wait_for("w0 w1 w2 w3 ")
    os.kill(terminal.process.pid, signal.SIGINT)
    terminal.wait_for(r"\(stopped\)")
    assert asked.get("/jobs?limit=1")["data"][0]["state"] == "cancelled"
    terminal.wait_for("> ")
    terminal.type("echo 你好\n")
    terminal.wait_for("\n你好\n")

    # saved, again and again; with another picture the talk is a new one
    for _ in range(2):
        terminal.wait_for("> ")
        terminal.type("/save talk.md\n")
        terminal.wait_for("saved in talk.md")
    assert (tmp_path / "talk.md").read_text().endswith("\n\n> stream 3\n\nw0 w1 w2 \n\n> echo 你好\n\n你好\n")
    terminal.wait_for("> ")
    terminal.type(f"/image {OTHER}\n")
    terminal.wait_for("a new talk, about ")
    terminal.wait_for("> ")
    terminal.type("echo another\n")
    terminal.wait_for("\nanother\n")
    terminal.wait_for("> ")
    terminal.type("/image none.png\n")
    terminal.wait_for("none.png: No such file or directory")
    terminal.wait_for("> ")
    terminal.type("/quit\n")
    assert terminal.process.wait(30) == 0
    latest, before = asked.get("/conversations?limit=2")["data"]
    assert (latest["num_turns"], latest["has_image"], before["num_turns"], before["has_image"]) == (1, True, 2, True)


def test_an_interrupt_ends_a_question_and_its_job(interruptible: None, asked: Running) -> None:
    asking = subprocess.Popen([*COMMAND, "stream 3000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=_env())
    assert asking.stdout is not None and asking.stderr is not None
    asking.stdout.read(5)
    asking.send_signal(signal.SIGINT)
    assert asking.wait(30) == 130
    assert asking.stderr.read() == b""
    asking.stdout.close()
    asking.stderr.close()
    assert asked.get("/jobs?limit=1")["data"][0]["state"] == "cancelled"


def _env() -> dict[str, str]:
    root = str(Path(__file__).parents[4])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH", ""))))}
