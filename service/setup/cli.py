"""`viscpm setup`: three questions, or flags, and a file of settings that `viscpm serve` starts with."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from service.core.environment.env_file import DEFAULT, VARIABLE
from service.doctor.gpus import Gpus, find_gpus
from service.setup.answers import SMALL, Answers, WrongAnswer, read_cards, read_models, read_source
from service.setup.questions import Answer, asked, card_question, models_question, source_question
from service.setup.variables import fetch_commands, variables_of


def main(argv: Sequence[str]) -> int:
    """The exit code: 0, 1 where nothing was written, 2 for wrong flags, 130 when interrupted."""
    options = parser().parse_args(argv)
    if options.file.exists() and not options.force:
        return _refuse(f"{options.file} is there already: --force writes it anew, --file names another one", 1)
    try:
        answers = _answers(options, find_gpus())
        variables = variables_of(answers, options.checkpoints)
    except WrongAnswer as error:
        return _refuse(str(error), 2)
    except EOFError:
        return _refuse("not all was answered, and nothing written", 1)
    except KeyboardInterrupt:
        return 130
    try:
        _write(options.file, variables)
    except OSError as error:
        return _refuse(f"cannot write {options.file}: {error.strerror or error}", 1)
    _tell_next(answers, options.file, fetch_commands(answers, options.checkpoints))
    return 0


def _answers(options: argparse.Namespace, found: Gpus) -> Answers:
    """Raises WrongAnswer for a flag or for one that is missing where nobody can be asked; EOFError."""
    memories = tuple(gpu.total_bytes for gpu in found.devices)

    def answer(flag: str, question: Callable[[], str], default: str, read: Callable[[str], Answer]) -> Answer:
        given = getattr(options, flag)
        if given is not None or options.yes:
            return read(given or default)
        if not sys.stdin.isatty():
            raise WrongAnswer(f"--{flag} is missing, and there is no terminal to ask on; --yes takes the defaults")
        return asked(input, print, question(), default, read)

    checkpoints = answer("models", models_question, SMALL, read_models)
    is_small = set(checkpoints.values()) == {SMALL}
    default = "gpu" if memories and not is_small else "cpu"
    cards = answer("card", lambda: card_question(found), default, lambda text: read_cards(text, memories))
    if is_small and options.source is None:  # nothing is fetched
        return Answers(checkpoints, cards)
    return Answers(checkpoints, cards, answer("source", source_question, "huggingface", read_source))


def _write(file: Path, variables: dict[str, str]) -> None:
    """All of it or nothing."""
    lines = [
        "# Written by `viscpm setup`; every variable is in docs/reference/configuration.md",
        *map("=".join, variables.items()),
    ]
    partial = file.with_name(f"{file.name}.part")
    partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
    partial.replace(file)


def _tell_next(answers: Answers, file: Path, commands: Sequence[str]) -> None:
    print(f"{file} is written.")
    if commands and answers.source == "none":
        print("\nIt names folders that have to hold the files, as these would bring them:")
    elif commands:
        print("\nOnce, before the first start (an interrupted fetch goes on where it stopped):")
    for command in commands:
        print(f"  {command}")
    read_by_itself = file.absolute() == Path(DEFAULT).absolute() and VARIABLE not in os.environ
    print("\nThen, and whenever it is to run:")
    print("  viscpm serve" if read_by_itself else f"  {VARIABLE}={file} viscpm serve")
    print("\n`viscpm doctor` tells what is wrong, should it not start.")


def _refuse(message: str, code: int) -> int:
    print(f"viscpm setup: {message}", file=sys.stderr)
    return code


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="viscpm setup",
        description="Writes the settings of this machine. What no flag says is asked on the terminal.",
    )
    parser.add_argument("--models", metavar="NAMES", help="small, or names as `viscpm checkpoint fetch` knows them")
    parser.add_argument("--card", metavar="CARD", help="cpu, gpu, or memory such as 24g (two cards: 24g,24g)")
    parser.add_argument("--source", metavar="HUB", help="huggingface, modelscope, a mirror's URL, or none")
    parser.add_argument("--yes", action="store_true", help="ask nothing: defaults for what no flag says")
    parser.add_argument(
        "--file", type=Path, default=Path(DEFAULT), metavar="FILE", help=f"to write (default: {DEFAULT})"
    )
    parser.add_argument("--force", action="store_true", help="write over a file that is there")
    parser.add_argument(
        "--checkpoints", type=Path, default=Path("checkpoints"), metavar="DIR", help="folder of fetched checkpoints"
    )
    return parser
