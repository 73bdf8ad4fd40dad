"""What `viscpm` ends with, and the error that says which and why."""

from enum import IntEnum


class ExitCode(IntEnum):
    """The same for all commands; docs/guides/cli.md lists them."""

    OK = 0
    FAILED = 1  # the service answered with an error, or a file could not be read or written
    USAGE = 2  # flags, settings or what a file says
    REFUSED = 3  # by the safety screens
    UNREACHABLE = 4
    NOT_ALLOWED = 5  # no key, a wrong one, or one without the scope
    BUSY = 6  # ask again: no slot, a limit of the key, a model that is loading or away
    INTERRUPTED = 130
    PIPE_CLOSED = 141  # who read the output went away


class CommandError(Exception):
    """What keeps a command from going on; the message is one line.

    Args:
        code: the service's error code, where it gave one.
        status: its HTTP status; 0: none came.
        retry_after_s: as the service said.
    """

    def __init__(
        self,
        message: str,
        exit_code: ExitCode = ExitCode.FAILED,
        *,
        code: str = "",
        status: int = 0,
        retry_after_s: float = 0.0,
    ) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.code = code
        self.status = status
        self.retry_after_s = retry_after_s


class UsageError(CommandError):
    """Flags, settings, or a line of a file."""

    def __init__(self, message: str) -> None:
        super().__init__(message, ExitCode.USAGE)


def exit_code_of(status: int, code: str) -> ExitCode:
    """What an HTTP error comes to."""
    if code in ("content_policy_violation", "content_filter"):
        return ExitCode.REFUSED
    if status in (401, 403):
        return ExitCode.NOT_ALLOWED
    return ExitCode.BUSY if status in (429, 503) else ExitCode.FAILED
