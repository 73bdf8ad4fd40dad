"""Every command of `viscpm` with its parser, as the command line itself builds them.

A command is run up to the point at which it would read its arguments, so nothing here knows how commands are laid out.
"""

import argparse
import importlib
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NoReturn

_PROJECT = Path(__file__).parents[2] / "pyproject.toml"
_PARSING = ("parse_args", "parse_known_args")


class _Found(Exception):
    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.parser = parser


def command_parsers() -> list[argparse.ArgumentParser]:
    """`viscpm` and all commands below it, in the order of its help."""
    root = _parser_of(())
    return [root, *_below(root, ())]


def described(parser: argparse.ArgumentParser) -> str:
    """A parser's help at 100 columns, whatever the terminal."""
    formatter = partial(parser.formatter_class, width=100)
    parser.formatter_class = formatter  # type: ignore[assignment]  # what argparse calls is any function of a prog
    if hasattr(parser, "color"):  # Python 3.14
        parser.color = False
    return parser.format_help().rstrip()


def _below(parser: argparse.ArgumentParser, words: tuple[str, ...]) -> Iterator[argparse.ArgumentParser]:
    for name, child in _children(parser).items():
        # A command with a parser of its own is known to the one above by its name alone
        found = child if _children(child) else _parser_of([*words, name], otherwise=child)
        yield found
        yield from _below(found, (*words, name))


def _children(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    actions = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return {name: child for action in actions for name, child in action.choices.items()}


def _parser_of(words: Sequence[str], otherwise: argparse.ArgumentParser | None = None) -> argparse.ArgumentParser:
    """The parser that reads these words' flags; `otherwise` where it is one of a command above."""
    with _stopped_at_parsing():
        try:
            _main()([*words, "--help"])
        except _Found as found:
            is_its_own = found.parser.prog.split() == ["viscpm", *words]
            return found.parser if is_its_own or otherwise is None else otherwise
    raise AssertionError(f"`viscpm {' '.join(words)}` reads no flags")


@contextmanager
def _stopped_at_parsing() -> Iterator[None]:
    def stop(self: argparse.ArgumentParser, *_: object, **__: object) -> NoReturn:
        raise _Found(self)

    kept = {name: getattr(argparse.ArgumentParser, name) for name in _PARSING}
    try:
        for name in _PARSING:
            setattr(argparse.ArgumentParser, name, stop)
        yield
    finally:
        for name, method in kept.items():
            setattr(argparse.ArgumentParser, name, method)


def _main() -> Callable[[list[str]], int]:
    module, _, name = tomllib.loads(_PROJECT.read_text("utf-8"))["project"]["scripts"]["viscpm"].partition(":")
    main: Callable[[list[str]], int] = getattr(importlib.import_module(module), name)
    return main
