"""`viscpm`: which command is meant. Its module is imported when it is asked for alone, so that all start fast."""

import argparse
import importlib
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

from service.client.arguments import Parser
from service.client.output import fail, say


class Command(NamedTuple):
    group: str
    told: str
    module: str  # with `parser()`, but for models' and roles'
    function: str = "main"  # of the module; takes the words after the command's
    needs_torch: bool = False


_RUN = "Run the service"
_ASK = "Ask a running service (VISCPM_URL, VISCPM_API_KEY)"
_MODELS = "Models"

COMMANDS = {
    "serve": Command(
        _RUN, "everything on this machine: embedded server, workers, API", "service.process.roles", "serve"
    ),
    "api": Command(_RUN, "one API process", "service.process.roles", "api"),
    "worker": Command(_RUN, "one worker process", "service.process.roles", "worker"),
    "setup": Command(_RUN, "write settings for this machine", "service.setup.cli"),
    "doctor": Command(_RUN, "find what is wrong with a set-up", "service.doctor.cli"),
    "keys": Command(_RUN, "make, list, change, rotate and revoke API keys", "service.process.keys_cli"),
    "chat": Command(_ASK, "ask about a picture, or talk about it", "service.client.commands.chat"),
    "paint": Command(_ASK, "paint pictures of a prompt", "service.client.commands.paint"),
    "batch": Command(_ASK, "send a file of requests, over kills and restarts", "service.client.commands.batch"),
    "jobs": Command(_ASK, "list, show, follow and cancel jobs", "service.client.commands.jobs"),
    "conversations": Command(
        _ASK, "list, show, take along and go on with conversations", "service.client.commands.conversations"
    ),
    "bench": Command(_ASK, "load it and tell its throughput and latency", "service.client.commands.bench"),
    "checkpoint": Command(
        _MODELS, "fetch, convert and inspect checkpoints", "models.checkpoints.cli", needs_torch=True
    ),
    "evaluate": Command(_MODELS, "measure a checkpoint", "models.evaluation.cli", needs_torch=True),
    "finetune": Command(_MODELS, "train on your own data", "models.training.cli", needs_torch=True),
    "verify": Command(
        "Pictures", "read the labels of a picture and check its credentials", "service.image_output.verify"
    ),
    "completion": Command(
        "This command line", "complete commands in bash, zsh and fish", "service.client.commands.completion"
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code (docs/guides/cli.md)."""
    name, *arguments = list(sys.argv[1:] if argv is None else argv) or [""]
    command = COMMANDS.get(name)
    if command is None:
        _parser().parse_args([name, *arguments] if name else [])
        return 0
    try:
        module = importlib.import_module(command.module)
    except ModuleNotFoundError as error:
        if not command.needs_torch:
            raise
        return fail(
            f"`viscpm {name}` needs {error.name}, which this installation lacks: install the extra "
            "`train` or `evaluate`, or use the image for training",
            1,
        )
    run = getattr(module, command.function)
    return int(run(arguments, _parsers) if name == "completion" else run(arguments))


def _parsers() -> dict[str, tuple[str, argparse.ArgumentParser | None]]:
    """All commands' for completion; none of those that load torch."""
    from service.process.roles import parsers as parsers_of_roles

    roles = parsers_of_roles()
    found: dict[str, tuple[str, argparse.ArgumentParser | None]] = {}
    for name, command in COMMANDS.items():
        own = None if command.needs_torch or name in roles else importlib.import_module(command.module).parser()
        found[name] = command.told, roles.get(name, own)
    return found


class _Help(argparse.Action):
    """All commands in their groups."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        lines = ["usage: viscpm COMMAND …   (viscpm COMMAND --help tells more; docs/guides/cli.md has all of it)"]
        for group in dict.fromkeys(command.group for command in COMMANDS.values()):
            lines += ["", group]
            lines += [f"  {name:14} {one.told}" for name, one in COMMANDS.items() if one.group == group]
        lines += [
            "",
            "Every setting is a VISCPM_* variable (docs/reference/configuration.md); a flag wins over its variable.",
        ]
        say("\n".join(lines))
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    """Of what is no command."""
    parser = Parser(prog="viscpm", add_help=False)
    parser.add_argument("-h", "--help", action=_Help, nargs=0)
    parser.add_argument("--version", action="version", version=f"viscpm {_version()}")
    parser.add_argument("command", choices=tuple(COMMANDS), metavar="COMMAND")
    return parser


def _version() -> str:
    try:
        return version("viscpm-service")
    except PackageNotFoundError:
        return "(not installed)"


if __name__ == "__main__":
    sys.exit(main())
