"""What commands print: answers on the standard output, all else on the standard error.

For people `rich` draws tables and progress where it is installed and a terminal reads; what is piped, and NO_COLOR, get
plain lines. Texts come from models and from other people: on a terminal none of them may hold escape sequences.
"""

import json
import os
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import IO, Any

from service.client.exit_codes import CommandError, ExitCode

Row = Mapping[str, str | int | float | None]


def say(text: str, end: str = "\n") -> None:
    """To the standard output, at once."""
    _write(sys.stdout, text + end)


def note(text: str) -> None:
    """To the standard error: what is no part of the answer."""
    _write(sys.stderr, f"{text}\n")


def say_json(value: object) -> None:
    """One line."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def say_rows(rows: Sequence[Row], as_json: bool, empty: str) -> None:
    """A table for people, `name=value` lines for a pipe, an array for programs.

    Args:
        empty: said on the standard error where there are none.
    """
    if as_json:
        say_json([dict(row) for row in rows])
    elif not rows:
        note(empty)
    elif is_for_people(sys.stdout):
        _draw_table(rows)
    else:
        for row in rows:
            say("  ".join(f"{name}={value}" for name, value in row.items() if value not in ("", 0, None)))


def refuse(error: CommandError, as_json: bool = False) -> int:
    """The error's exit code, after one line about it; for programs that line is JSON."""
    told: dict[str, Any] = {"message": str(error), "code": error.code or None, "status": error.status or None}
    note(json.dumps({"error": told, "exit_code": int(error.exit_code)}) if as_json else f"viscpm: {error}")
    return int(error.exit_code)


def fail(message: str, exit_code: int) -> int:
    """The exit code, after one line that says why."""
    return refuse(CommandError(message, ExitCode(exit_code)))


def is_for_people(stream: IO[str]) -> bool:
    """Whether a terminal reads it that colours and moving lines are for, and `rich` is there to draw them."""
    if not stream.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM", "dumb") == "dumb":
        return False
    try:
        import rich  # noqa: F401
    except ImportError:  # the extra `cli` is not installed
        return False
    return True


def printable(text: str) -> str:
    """Without controls (escape sequences begin with one), but for line ends and tabs."""
    return "".join(one if one in "\n\t" or unicodedata.category(one) != "Cc" else f"\\x{ord(one):02x}" for one in text)


def time_text(time_s: int | float | None) -> str:
    """Local time, to the second; empty for none."""
    return datetime.fromtimestamp(time_s).strftime("%Y-%m-%d %H:%M:%S") if time_s else ""


def span_text(span_s: float) -> str:
    """Such as `8 s` or `3:20`."""
    whole_s = round(span_s)
    return f"{whole_s} s" if whole_s < 60 else f"{whole_s // 60}:{whole_s % 60:02d}"


def _write(stream: IO[str], text: str) -> None:
    stream.write(printable(text) if stream.isatty() else text)
    stream.flush()


def _draw_table(rows: Sequence[Row]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    names = [name for name in rows[0] if any(row.get(name) not in ("", 0, None) for row in rows)]
    table = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for name in names:
        is_number = all(isinstance(row[name], int | float | None) for row in rows)
        table.add_column(name, justify="right" if is_number else "left", no_wrap=name == "id", overflow="fold")
    for row in rows:
        cells = ("" if row[name] is None else str(row[name]) for name in names)
        table.add_row(*(Text(printable(cell)) for cell in cells))
    Console(highlight=False).print(table)
