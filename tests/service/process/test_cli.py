"""The command line: groups of commands, one line for what is wrong, and nothing imported that is not asked for."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from service.process import cli


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["frobnicate"], "invalid choice: 'frobnicate'"),
        (["--frobnicate"], "the following arguments are required: COMMAND"),
    ],
)
def test_what_is_no_command_is_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    told = capsys.readouterr().err
    assert end.value.code == 2 and message in told and told.count("\n") == 1 and told.startswith("viscpm: ")


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_tells_all_commands_in_groups(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main([flag])
    told = capsys.readouterr().out
    assert end.value.code == 0
    groups = [line for line in told.splitlines() if line and not line.startswith((" ", "usage", "Every"))]
    assert groups == list(dict.fromkeys(command.group for command in cli.COMMANDS.values()))
    for name, command in cli.COMMANDS.items():
        assert f"  {name:14} {command.told}\n" in told


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["--version"])
    assert end.value.code == 0 and capsys.readouterr().out.startswith("viscpm ")


@pytest.mark.parametrize("name", [name for name, command in cli.COMMANDS.items() if not command.needs_torch])
def test_every_command_tells_its_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert callable(getattr(importlib.import_module(cli.COMMANDS[name].module), cli.COMMANDS[name].function))
    with pytest.raises(SystemExit) as end:
        cli.main([name, "--help"])
    assert end.value.code == 0 and f"usage: viscpm {name} " in capsys.readouterr().out


@pytest.mark.slow
def test_the_command_line_loads_no_torch() -> None:
    code = (
        "import sys, importlib\nfrom service.process import api_server, cli, supervisor\n"
        "[importlib.import_module(one.module) for one in cli.COMMANDS.values() if not one.needs_torch]\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'diffusers', 'transformers', 'onnxruntime')))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_help_imports_no_more_than_it_says() -> None:
    code = (
        "import sys\nfrom service.process import cli\n"
        "try: cli.main(['--help'])\nexcept SystemExit: pass\n"
        "sys.exit(any(name in sys.modules for name in ('httpx', 'pydantic', 'redis', 'PIL', 'asyncio', 'rich')))"
    )
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL).returncode == 0


def test_every_command_is_in_the_document_with_a_transcript() -> None:
    text = (Path(__file__).parents[3] / "docs/guides/cli.md").read_text()
    sections = dict(re.findall(r"^## viscpm (\w+)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    asked = [name for name, command in cli.COMMANDS.items() if ".client." in command.module]
    assert sorted(sections) == sorted([*asked, "keys"])
    assert all(f"$ viscpm {name if name != 'completion' else 'jobs'} " in section for name, section in sections.items())
