"""What every command does with errors, interrupts and readers that go away."""

import subprocess
import sys

import pytest

from service.client.arguments import Parser, add_json_flag
from service.client.command import run_command, with_default
from service.client.exit_codes import CommandError, ExitCode
from service.client.output import say


def parser() -> Parser:
    made = Parser(prog="viscpm x")
    add_json_flag(made)
    return made


@pytest.mark.parametrize(
    ("raised", "code", "told"),
    [
        (CommandError("no", ExitCode.BUSY), 6, "viscpm: no\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_what_ends_a_command_is_its_exit_code(
    raised: BaseException, code: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*_: object) -> int:
        raise raised

    assert run_command(parser(), [], run) == code
    assert capsys.readouterr() == ("", told)


def test_wrong_settings_are_usage(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("VISCPM_QUEUE_SIZE", "0")
    assert run_command(parser(), ["--json"], lambda *_: 0) == 2
    assert '"exit_code": 2' in capsys.readouterr().err


def test_what_is_no_text_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def run(*_: object) -> int:
        say("a\udcffb")
        "\udcff".encode()
        return 0

    assert run_command(parser(), [], run) == 2
    assert capsys.readouterr() == ("a\\udcffb\n", "viscpm: what is sent must be text in UTF-8\n")


@pytest.mark.slow
def test_a_reader_that_leaves_is_no_error() -> None:
    code = (
        "import sys\nfrom service.client.arguments import Parser\nfrom service.client.command import run_command\n"
        "from service.client.output import say\n"
        "def run(*_):\n    while True: say('x' * 1000)\n"
        "sys.exit(run_command(Parser(), [], run))"
    )
    writing = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert writing.stdout is not None and writing.stderr is not None
    writing.stdout.read(100)
    writing.stdout.close()
    told = writing.stderr.read()
    assert (writing.wait(30), told) == (141, b"")
    writing.stderr.close()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], ["list"]),
        (["--json"], ["list", "--json"]),
        (["show", "x"], ["show", "x"]),
        (["--help"], ["--help"]),
    ],
)
def test_no_subcommand_is_the_default_one(arguments: list[str], expected: list[str]) -> None:
    assert with_default(arguments, "list") == expected
