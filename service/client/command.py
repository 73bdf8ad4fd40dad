"""What every command is: a parser, what it does with a service, and an exit code."""

import argparse
import io
import os
import sys
from collections.abc import Callable, Sequence

from service.client.connection import Service, url_of
from service.client.exit_codes import CommandError, ExitCode, UsageError
from service.client.output import refuse
from service.core.settings import Settings, SettingsError, read_settings

Run = Callable[[argparse.Namespace, Settings], int]


def run_command(
    parser: argparse.ArgumentParser, arguments: Sequence[str], run: Run, is_intermixed: bool = False
) -> int:
    """The exit code of a command; what goes wrong is one line.

    Args:
        is_intermixed: words may stand between flags; not for parsers that have subcommands.
    """
    _take_any_text()
    options = (parser.parse_intermixed_args if is_intermixed else parser.parse_args)(arguments)
    as_json = bool(getattr(options, "json", False))
    try:
        return run(options, read_settings())
    except SettingsError as error:
        return refuse(UsageError(str(error)), as_json)
    except CommandError as error:
        return refuse(error, as_json)
    except UnicodeEncodeError:
        return refuse(UsageError("what is sent must be text in UTF-8"), as_json)
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter's last flush fails too
        return ExitCode.PIPE_CLOSED


def service_of(options: argparse.Namespace, settings: Settings) -> Service:
    """The one that the flags or the settings name."""
    return Service(url_of(settings, options.url), settings.api_key)


def with_default(arguments: Sequence[str], command: str) -> Sequence[str]:
    """A command's words where the first one names no subcommand: that one is meant."""
    is_named = bool(arguments) and (not arguments[0].startswith("-") or arguments[0] in ("-h", "--help"))
    return arguments if is_named else [command, *arguments]


def _take_any_text() -> None:
    """What is no text of the terminal's encoding is shown and read as well as it can be."""
    for stream, errors in ((sys.stdin, "replace"), (sys.stdout, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)
