"""Every command of `viscpm` with its help, as the command line itself tells it.

A command is run up to the point at which it would read its flags, so nothing here knows how commands are laid out.
"""

import argparse
import importlib
import io
import os
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import NoReturn

_PROJECT = Path(__file__).parents[2] / "pyproject.toml"
_PARSING = ("parse_args", "parse_known_args")
_PLAIN = {"COLUMNS": "100", "NO_COLOR": "1"}


class _Found(Exception):
    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.parser = parser


def commands_with_help() -> dict[str, str]:
    """`viscpm` and all commands below it, in the order of its help, each with that help at 100 columns."""
    return {" ".join(["viscpm", *words]): _help_of(words) for words in _with_those_below(())}


def _with_those_below(words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    yield words
    for name in _names_below(_parser_of(words)):
        yield from _with_those_below((*words, name))


def _names_below(parser: argparse.ArgumentParser) -> list[str]:
    """Of commands that have parsers here, or that the parser knows by their names alone."""
    is_command = [
        action
        for action in parser._actions
        if isinstance(action, argparse._SubParsersAction) or (action.metavar == "COMMAND" and action.choices)
    ]
    return [str(name) for action in is_command for name in action.choices or ()]


def _parser_of(words: tuple[str, ...]) -> argparse.ArgumentParser:
    """The one that reads the flags after these words: it may be below the one that reads the words themselves."""
    with _stopped_at_parsing():
        try:
            _main()([*words, "--help"])
        except _Found as found:
            parser = found.parser
        else:
            raise AssertionError(f"`viscpm {' '.join(words)}` reads no flags")
    for word in words[len(parser.prog.split()) - 1 :]:
        (below,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
        parser = below.choices[word]
    return parser


def _help_of(words: tuple[str, ...]) -> str:
    told = io.StringIO()
    kept = {name: os.environ.get(name) for name in _PLAIN}
    os.environ.update(_PLAIN)
    try:
        with redirect_stdout(told), suppress(SystemExit):
            _main()([*words, "--help"])
    finally:
        for name, value in kept.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    return told.getvalue().strip()


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
