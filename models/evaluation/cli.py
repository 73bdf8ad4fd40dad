"""`viscpm evaluate`: how well a checkpoint answers and paints.

A command is a module with `add_arguments(parser)` and `run(options)`, which returns the exit code; only the module of
the command that is asked for is imported.
"""
# ruff: noqa: T201 (a command line speaks by print)

import argparse
import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from models.checkpoints.tensor_files import CheckpointError
from models.evaluation.errors import EvaluationError


@dataclass(frozen=True)
class Command:
    module: str
    help: str


COMMANDS = {
    "emoji": Command(
        "models.evaluation.emoji.cli", "answers and paintings of an emoji checkpoint, by kind and language"
    ),
    "llava": Command("models.evaluation.llava.cli", "LLaVA-bench: answers, judgements and the paper's table"),
    "pictures": Command("models.evaluation.image_quality.cli", "zero-shot FID and CLIP score of a Paint model"),
    "train-classifier": Command(
        "models.evaluation.emoji.classifier", "train the network that names paintings independently"
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code: the command's own, 1 with one line on stderr for what failed, 2 for wrong flags."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    asked = arguments[0] if arguments else ""
    options = _parser(asked).parse_args(arguments)
    try:
        code: int = options.run(options)
    except (EvaluationError, CheckpointError, OSError) as error:
        print(f"viscpm evaluate {asked}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return code


def _parser(asked: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="viscpm evaluate", description="Measure a checkpoint.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        one = commands.add_parser(name, help=command.help, description=command.help.capitalize() + ".")
        if name == asked:
            module = importlib.import_module(command.module)
            module.add_arguments(one)
            one.set_defaults(run=module.run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
