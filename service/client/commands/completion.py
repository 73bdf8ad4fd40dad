"""`viscpm completion`: scripts by which bash, zsh and fish complete commands and flags, made of the parsers."""

import argparse
import shlex
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from service.client.arguments import Parser
from service.client.output import say

Parsers = Callable[[], dict[str, tuple[str, argparse.ArgumentParser | None]]]


class Word(NamedTuple):
    text: str
    told: str  # one line; empty: nothing


class Place(NamedTuple):
    """What may come after some words of a command line, such as `viscpm jobs`."""

    path: tuple[str, ...]
    commands: list[Word]
    flags: list[Word]
    values: dict[str, list[str]]  # of flags that take one of a few


def main(arguments: Sequence[str], parsers: Parsers) -> int:
    """Print the script of a shell.

    Args:
        parsers: all commands by name, with a line about each, and its parser where it has one that loads fast.
    """
    shell = parser().parse_args(arguments).shell
    say(_SCRIPTS[shell](list(places(parsers()))), end="")
    return 0


def parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="viscpm completion",
        description="Print a script for a shell: source <(viscpm completion bash), source <(viscpm completion zsh), "
        "viscpm completion fish | source.",
    )
    parser.add_argument("shell", choices=tuple(_SCRIPTS), metavar="SHELL", help="bash, zsh or fish")
    return parser


def places(parsers: dict[str, tuple[str, argparse.ArgumentParser | None]]) -> Iterator[Place]:
    """All places of a command line at which something can be completed, the whole one first."""
    yield Place((), [Word(name, told) for name, (told, _) in parsers.items()], [], {})
    for name, (_, one) in parsers.items():
        yield from [Place((name,), [], [], {})] if one is None else _places((name,), one)


def _places(path: tuple[str, ...], parser: argparse.ArgumentParser) -> Iterator[Place]:
    commands: list[Word] = []
    flags: list[Word] = []
    values: dict[str, list[str]] = {}
    below: dict[str, argparse.ArgumentParser] = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            below = dict(action.choices)
            commands = [Word(told.dest, told.help or "") for told in action._choices_actions]
        elif action.option_strings:
            if action.help != argparse.SUPPRESS:
                flags += [Word(flag, action.help or "") for flag in action.option_strings if flag.startswith("--")]
                if action.choices:
                    values |= {flag: [str(one) for one in action.choices] for flag in action.option_strings}
        elif action.choices:
            commands += [Word(str(one), "") for one in action.choices]
    yield Place(path, commands, flags, values)
    for name, one in below.items():
        yield from _places((*path, name), one)


def _bash(found: list[Place]) -> str:
    steps = "".join(f"            {_quoted(place.path)}) path={_quoted(place.path)} ;;\n" for place in found[1:])
    words = "".join(f"        {_quoted(place.path)}) {_bash_words(place)} ;;\n" for place in found)
    return _BASH.replace("@STEPS@", steps).replace("@WORDS@", words)


def _bash_words(place: Place) -> str:
    words = f'words="{" ".join(word.text for word in [*place.commands, *place.flags])}"'
    if not place.values:
        return words
    cases = "".join(f'{flag}) words="{" ".join(values)}" ;; ' for flag, values in place.values.items())
    return f'case "$previous" in {cases}*) {words} ;; esac'


def _zsh(found: list[Place]) -> str:
    steps = "".join(f"            {_quoted(place.path)}) at={_quoted(place.path)} ;;\n" for place in found[1:])
    words = "".join(
        f"        {_quoted(place.path)}) told=({' '.join(map(_zsh_word, [*place.commands, *place.flags]))}) ;;\n"
        for place in found
    )
    return _ZSH.replace("@STEPS@", steps).replace("@WORDS@", words)


def _zsh_word(word: Word) -> str:
    text = word.text.replace(":", "\\:")
    return shlex.quote(f"{text}:{word.told}" if word.told else text)


def _fish(found: list[Place]) -> str:
    lines = ["complete -c viscpm -f -n __fish_use_subcommand"]
    for place in found:
        names = "".join(f"; and __fish_seen_subcommand_from {name}" for name in place.path).removeprefix("; and ")
        here = names or "__fish_use_subcommand"
        if place.path and place.commands:
            names_here = " ".join(word.text for word in place.commands)
            here += f"; and not __fish_seen_subcommand_from {names_here}"
        lines += [
            f"complete -c viscpm -f -n {shlex.quote(here)} -a {word.text}{_fish_told(word)}" for word in place.commands
        ]
        for word in place.flags:
            values = place.values.get(word.text)
            takes = f" -x -a {shlex.quote(' '.join(values))}" if values else ""
            lines.append(
                f"complete -c viscpm -n {shlex.quote(names)} -l {word.text.removeprefix('--')}{takes}{_fish_told(word)}"
            )
    return "\n".join(lines) + "\n"


def _fish_told(word: Word) -> str:
    return f" -d {shlex.quote(word.told)}" if word.told else ""


def _quoted(path: tuple[str, ...]) -> str:
    return f'"{" ".join(path)}"'


_SCRIPTS = {"bash": _bash, "zsh": _zsh, "fish": _fish}

_BASH = """\
_viscpm() {
    local current="${COMP_WORDS[COMP_CWORD]}" previous="${COMP_WORDS[COMP_CWORD-1]}" path="" words="" i
    for ((i = 1; i < COMP_CWORD; i++)); do
        case "${path:+$path }${COMP_WORDS[i]}" in
@STEPS@        esac
    done
    case "$path" in
@WORDS@    esac
    COMPREPLY=()
    [[ -n "$path" && "$current" != -* && "$words" == -* ]] && return
    while IFS='' read -r i; do COMPREPLY+=("$i"); done < <(compgen -W "$words" -- "$current")
}
complete -o default -F _viscpm viscpm
"""

_ZSH = """\
#compdef viscpm
_viscpm() {
    local at="" word
    local -a told
    for word in ${words[2,CURRENT-1]}; do
        case "${at:+$at }$word" in
@STEPS@        esac
    done
    case "$at" in
@WORDS@    esac
    _describe -t commands viscpm told || _files
}
compdef _viscpm viscpm
"""
