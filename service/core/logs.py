"""Log lines of one form for every process: time, level, role, message, fields; text for people, or JSON lines.

No line holds what requests say: prompts, questions, answers, pictures, URLs. What is logged is ids, counts and codes;
messages of exceptions are told where they speak of the machine, and withheld where they may quote their data.
"""

import json
import logging
import re
import sys
import threading
import time
import traceback
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal

LogFormat = Literal["text", "json"]

_OURS = ("service.", "safety.", "models.")
_PLAIN = re.compile(r"[!#-<>-~]+")  # printable ASCII without space, quote and equals sign
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
# Whose messages speak of the machine, the program or the server and not of a request's data
_TOLD = (OSError, RuntimeError, MemoryError, ImportError, AttributeError, NameError, TypeError)
_WITHHELD = "(its message is withheld: it may quote a request)"


def configure_logging(level: str, role: str, log_format: LogFormat = "text") -> None:
    """Send this process's log to stderr; `role` says which process of the tree speaks."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter(role) if log_format == "json" else _TextFormatter(role))
    handler.addFilter(_is_told)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # In no line of ours, and a part of the price of each
    for detail in ("logThreads", "logProcesses", "logMultiprocessing", "logAsyncioTasks"):
        setattr(logging, detail, False)
    for chatty in ("httpx", "httpcore", "uvicorn", "asyncio"):  # they say what we say ourselves
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # torchao, which diffusers loads where it is installed, names builds for other devices that it cannot use here
    for unused in ("torchao", "torch.utils._pytree", "diffusers.quantizers.torchao.torchao_quantizer"):
        logging.getLogger(unused).setLevel(logging.ERROR)
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # warns of what is answered with 400
    if log_format == "json":  # then nothing may stand between the lines
        logging.captureWarnings(True)
        sys.excepthook = _log_uncaught
        threading.excepthook = lambda hook: _log_uncaught(hook.exc_type, hook.exc_value, hook.exc_traceback)


def fields(**values: object) -> dict[str, Any]:
    """For a log call's `extra`: what a line tells beside its message; None is left out."""
    return {"fields": {name: value for name, value in values.items() if value is not None}}


class _TextFormatter(logging.Formatter):
    """`TIME LEVEL role: message key=value`; further lines are indented, so that none looks like one of its own."""

    def __init__(self, role: str) -> None:
        super().__init__()
        self._role = role
        self._second = 0, ""

    def format(self, record: logging.LogRecord) -> str:
        head, *rest = record.getMessage().split("\n")
        line = f"{self._time(record)} {record.levelname:<7} {self._role}: {_without_controls(head)}"
        for name, value in getattr(record, "fields", {}).items():
            line += f" {name}={_shown(value)}"
        if record.exc_info and record.exc_info[1] is not None:
            rest += _described(record.exc_info[1]).split("\n")
        return "\n  ".join([line, *map(_without_controls, rest)])

    def _time(self, record: logging.LogRecord) -> str:
        """Local time; the second in words is worked out once for all of its lines."""
        second = int(record.created)
        if second != self._second[0]:
            self._second = second, time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))
        return f"{self._second[1]},{int((record.created - second) * 1000):03d}"


class _JsonFormatter(logging.Formatter):
    """One object a line, in ASCII: `ts` (RFC 3339, UTC), `level`, `role`, `message`, the fields, `exception`."""

    def __init__(self, role: str) -> None:
        super().__init__()
        self._role = role
        self._encoder = json.JSONEncoder(default=str)

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "role": self._role,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = _described(record.exc_info[1])
        return self._encoder.encode(line)


def _is_told(record: logging.LogRecord) -> bool:
    """Libraries' lines for their own debugging are left out: some quote what they are given."""
    return record.levelno >= logging.INFO or record.name.startswith(_OURS)


def _shown(value: object) -> str:
    text = str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text)


def _without_controls(text: str) -> str:
    return _CONTROLS.sub(lambda found: found.group().encode("unicode_escape").decode(), text)


def _described(error: BaseException) -> str:
    """Tracebacks, the cause first."""
    told = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        told.append("".join(traceback.format_tb(current.__traceback__)) + _named(current))
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return "\nwhich led to:\n".join(reversed(told))


def _named(error: BaseException) -> str:
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    if isinstance(error, BaseExceptionGroup):
        return name + "".join(f"\n{_described(one)}" for one in error.exceptions)
    message = str(error)
    if not message:
        return name
    is_told = isinstance(error, _TOLD) or kind.__module__.startswith("redis.")
    return f"{name}: {message if is_told else _WITHHELD}"


def _log_uncaught(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    if error is not None and not issubclass(kind, KeyboardInterrupt | SystemExit):
        logging.getLogger(__name__).critical("nobody caught this", exc_info=(kind, error, trace))
