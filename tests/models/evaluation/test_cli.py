"""`viscpm evaluate`: which command runs, and what it ends with."""

import argparse
import importlib
import sys
from subprocess import run
from types import ModuleType

import pytest

from models.checkpoints.tensor_files import CheckpointError
from models.evaluation import cli
from models.evaluation.cli import COMMANDS, Command, main
from models.evaluation.errors import EvaluationError


class Measure(ModuleType):
    """A command that does what it is told."""

    outcome: int | BaseException = 0
    asked: list[int] = []

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--number", type=int, default=1)

    @classmethod
    def run(cls, options: argparse.Namespace) -> int:
        cls.asked.append(options.number)
        if isinstance(cls.outcome, BaseException):
            raise cls.outcome
        return cls.outcome


@pytest.fixture
def measure(monkeypatch: pytest.MonkeyPatch) -> type[Measure]:
    monkeypatch.setitem(sys.modules, "some.measure", Measure("some.measure"))
    monkeypatch.setattr(cli, "COMMANDS", {**COMMANDS, "measure": Command("some.measure", "measure something")})
    monkeypatch.setattr(Measure, "asked", [])
    return Measure


@pytest.mark.parametrize("code", [0, 1])
def test_the_exit_code_is_the_commands_own(measure: type[Measure], monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    monkeypatch.setattr(measure, "outcome", code)
    assert main(["measure", "--number", "5"]) == code
    assert measure.asked == [5]


@pytest.mark.parametrize(
    "error", [EvaluationError("2 of 3 missing"), CheckpointError("2 of 3 missing"), OSError("2 of 3 missing")]
)
def test_what_fails_is_one_line_on_stderr(
    measure: type[Measure],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
) -> None:
    monkeypatch.setattr(measure, "outcome", error)
    assert main(["measure"]) == 1
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "viscpm evaluate measure: 2 of 3 missing\n")


def test_an_interruption_is_130_and_a_slip_of_ours_is_no_line(
    measure: type[Measure], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(measure, "outcome", KeyboardInterrupt())
    assert main(["measure"]) == 130
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(measure, "outcome", TypeError("a slip"))
    with pytest.raises(TypeError):
        main(["measure"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["nothing"], "invalid choice: 'nothing'"),
        (["measure", "--number", "x"], "invalid int value: 'x'"),
        (["measure", "--more"], "unrecognized arguments: --more"),
    ],
)
def test_wrong_flags_are_2(
    measure: type[Measure], capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err
    assert measure.asked == []


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for name, command in COMMANDS.items():
        assert f"{name} {command.help}" in shown


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_a_module_that_can_be_asked(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    module = importlib.import_module(COMMANDS[name].module)
    assert callable(module.add_arguments) and callable(module.run)
    with pytest.raises(SystemExit, match="0"):
        main([name, "--help"])
    assert f"viscpm evaluate {name}" in capsys.readouterr().out


@pytest.mark.slow
def test_only_the_command_that_is_asked_for_is_imported() -> None:
    """The others' libraries take seconds."""
    code = (
        "import sys; from models.evaluation.cli import main, COMMANDS\n"
        "try: main(['llava', '--help'])\n"
        "except SystemExit: pass\n"
        "print(*sorted({c.module for c in COMMANDS.values()} & set(sys.modules)), 'matplotlib' in sys.modules)"
    )
    shown = run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.splitlines()[-1] == "models.evaluation.llava.cli False"
