"""What commands' parsers share: one line for what is wrong, and the flags that name a service."""

import argparse
from typing import Any, NoReturn

from service.client.exit_codes import ExitCode


class Parser(argparse.ArgumentParser):
    """Abbreviations of flags are none: a later flag would take them."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{**options, "allow_abbrev": False})

    def error(self, message: str) -> NoReturn:
        self.exit(ExitCode.USAGE, f"{self.prog}: {message}; see {self.prog} --help\n")


def add_service_flags(parser: argparse.ArgumentParser) -> None:
    """Of a command that asks a running service."""
    parser.add_argument("--url", help="the service (VISCPM_URL, else VISCPM_HOST and VISCPM_PORT)")
    add_json_flag(parser)


def add_json_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="JSON on the standard output, and for errors")


def add_answer_flags(parser: argparse.ArgumentParser) -> None:
    """How an answer is searched for; what is absent is left to the service."""
    parser.add_argument("--num-beams", type=int, metavar="N")
    parser.add_argument("--max-new-tokens", type=int, metavar="N")
    parser.add_argument("--sample", action="store_true", default=None, dest="do_sample", help="sample, do not search")
    parser.add_argument("--temperature", type=float, metavar="X")
    parser.add_argument("--top-k", type=int, metavar="N")
    parser.add_argument("--top-p", type=float, metavar="X")
    parser.add_argument("--seed", type=int)


ANSWER_FIELDS = ("num_beams", "max_new_tokens", "do_sample", "temperature", "top_k", "top_p", "seed")


def given(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Request fields that were asked for; the service knows the defaults of the others."""
    return {name: value for name in names if (value := getattr(options, name)) is not None}


def positive(value: str) -> int:
    if not (value.isascii() and value.isdigit() and 0 < int(value) <= 1_000_000):
        raise argparse.ArgumentTypeError(f"{value!r} is no count: whole numbers from 1 are allowed")
    return int(value)


def seconds(value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = 0.0
    if not 0 < number <= 86_400:
        raise argparse.ArgumentTypeError(f"{value!r} is no time: seconds above 0, up to 86400, are allowed")
    return number
