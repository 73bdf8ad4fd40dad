"""`viscpm completion`: in a real bash, all that the parsers know; scripts of zsh and fish by what they hold."""

import argparse
import shutil
import subprocess
from pathlib import Path

import pytest

from service.client.arguments import Parser
from service.client.commands.completion import places
from service.process import cli


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("completion") / "viscpm.bash"
    path.write_text(_script("bash"))
    return path


def _script(shell: str) -> str:
    import contextlib
    import io

    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert cli.main(["completion", shell]) == 0
    return printed.getvalue()


def completed(script: Path, line: str) -> list[str]:
    """What bash offers at the end of a command line, as its own completion machinery asks for it."""
    words = line.split(" ")
    quoted = " ".join(f"'{word}'" for word in words)
    ask = (
        f"source {script}; COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _viscpm; "
        '[[ $(complete -p viscpm) == "complete -o default -F _viscpm viscpm" ]] && printf "%s\\n" "${COMPREPLY[@]}"'
    )
    bash = shutil.which("bash")
    assert bash is not None
    asked = subprocess.run([bash, "--norc", "-euc", ask], capture_output=True, text=True, timeout=30)
    assert asked.returncode == 0, asked.stderr
    return [word for word in asked.stdout.splitlines() if word]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("viscpm co", ["conversations", "completion"]),
        ("viscpm jobs ", ["list", "show", "follow", "cancel", "--help"]),
        ("viscpm jobs f", ["follow"]),
        ("viscpm jobs follow --o", ["--output"]),
        ("viscpm keys create --max", ["--max-jobs"]),
        ("viscpm chat picture.png --num", ["--num-beams"]),
        ("viscpm worker s", ["safety"]),
        ("viscpm completion ", ["bash", "zsh", "fish", "--help"]),
        ("viscpm batch ", []),  # bash's own completion offers files
        ("viscpm checkpoint ", []),
        ("viscpm api --sh", []),  # what only the supervisor says
    ],
)
def test_bash_completes(script: Path, line: str, expected: list[str]) -> None:
    assert completed(script, line) == expected


def test_bash_completes_every_command(script: Path) -> None:
    assert completed(script, "viscpm ") == list(cli.COMMANDS)


def test_a_flags_values_are_offered(tmp_path: Path) -> None:
    from service.client.commands import completion

    parser = Parser(prog="viscpm x")
    parser.add_argument("--colour", choices=("red", "green"), help="which")
    parser.add_argument("--size", choices=("small", "large"))
    parser.add_argument("--secret", help=argparse.SUPPRESS)
    path = tmp_path / "x.bash"
    path.write_text(completion._bash(list(places({"x": ("try", parser)}))))
    assert completed(path, "viscpm x --colour ") == ["red", "green"]
    assert completed(path, "viscpm x --size l") == ["large"]
    assert completed(path, "viscpm x --") == ["--help", "--colour", "--size"]
    assert "-l colour -x -a 'red green' -d which" in completion._fish(list(places({"x": ("try", parser)})))


def test_the_other_shells_scripts_hold_every_command() -> None:
    zsh, fish = _script("zsh"), _script("fish")
    for name, command in cli.COMMANDS.items():
        assert f"'{name}:{command.told}'" in zsh
        assert f"-f -n __fish_use_subcommand -a {name} -d '{command.told}'" in fish
    assert '"jobs follow") told=(' in zsh
    assert "__fish_seen_subcommand_from jobs; and __fish_seen_subcommand_from follow' -l output" in fish
