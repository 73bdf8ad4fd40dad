"""Lines of one form on stderr."""

import json
import logging
import re
import sys
import threading
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from service.core.logs import configure_logging, fields

LIBRARIES = (
    "httpx",
    "httpcore",
    "httpcore.connection",
    "uvicorn",
    "uvicorn.error",
    "asyncio",
    "python_multipart",
    "python_multipart.multipart",
)


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Logging is the process' own: leave it to the other tests as it was."""
    root = logging.getLogger()
    named = [logging.getLogger(name) for name in LIBRARIES]
    handlers, level = root.handlers[:], root.level
    before = [(one.level, one.propagate, one.disabled, one.handlers) for one in named]
    hooks = sys.excepthook, threading.excepthook
    root.handlers = []  # not pytest's, which `force` would close
    for one in named:  # as in a new process, whatever ran in this one
        one.setLevel(logging.NOTSET)
        one.propagate, one.disabled, one.handlers = True, False, []
    yield
    logging.captureWarnings(False)
    sys.excepthook, threading.excepthook = hooks
    root.handlers, root.level = handlers, level
    for one, (old_level, propagate, disabled, old_handlers) in zip(named, before, strict=True):
        one.setLevel(old_level)  # which also empties what loggers remember of levels
        one.propagate, one.disabled, one.handlers = propagate, disabled, old_handlers


def test_a_line_tells_time_level_role_and_text(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "worker chat")
    logging.getLogger("service.anything").info("loaded in %.1f s", 2.5)
    logging.getLogger("service.anything").debug("not at this level")
    said = capsys.readouterr()
    assert said.out == ""
    assert re.fullmatch(r"\d{4}-\d\d-\d\d [\d:,]+ INFO    worker chat: loaded in 2\.5 s\n", said.err)


def test_libraries_that_say_what_we_say_are_quiet_until_something_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("debug", "api")
    for name in ("httpx", "httpcore.connection", "uvicorn.error", "asyncio"):
        logging.getLogger(name).info("HTTP Request: GET")
        logging.getLogger(name).warning("%s is wrong", name)
    logging.getLogger("python_multipart.multipart").warning("answered with 400")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("api: ")[1] for line in lines] == [
        f"{name} is wrong" for name in ("httpx", "httpcore.connection", "uvicorn.error", "asyncio")
    ]


def test_configuring_again_says_nothing_twice(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "serve")
    configure_logging("error", "api")
    logging.getLogger("service").warning("below the new level")
    logging.getLogger("service").error("once")
    assert capsys.readouterr().err.count("\n") == 1


def test_fields_stand_after_the_message_quoted_where_they_must_be(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "api")
    told = fields(route="/jobs/{job_id}", status=200, duration_ms=1.5, job_id=None, request_id='a"b=c', name="Ä 1")
    logging.getLogger("service").info("request", extra=told)
    line = capsys.readouterr().err
    assert line.endswith(
        ' api: request route=/jobs/{job_id} status=200 duration_ms=1.5 request_id="a\\"b=c" name="\\u00c4 1"\n'
    )


def test_a_json_line_holds_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "worker chat", "json")
    logging.getLogger("service").warning("loaded in %.1f s\n", 2.5, extra=fields(job_id="chat-1", tokens=3, steps=None))
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.isascii()
    line = json.loads(said)
    ts = line.pop("ts")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", ts)
    assert abs((datetime.fromisoformat(ts) - datetime.now(UTC)).total_seconds()) < 60
    assert line == {
        "level": "warning",
        "role": "worker chat",
        "message": "loaded in 2.5 s\n",
        "job_id": "chat-1",
        "tokens": 3,
    }


QUOTED = "what a client wrote"  # a traceback shows the source's lines


def broken() -> None:
    try:
        raise KeyError(QUOTED)
    except KeyError as error:
        raise RuntimeError("no kernel image") from error


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_exceptions_are_told_without_what_they_may_quote(capsys: pytest.CaptureFixture[str], log_format: Any) -> None:
    configure_logging("info", "api", log_format)
    try:
        broken()
    except RuntimeError:
        logging.getLogger("service").exception("a request broke", extra=fields(request_id="r1"))
    said = capsys.readouterr().err
    told = json.loads(said)["exception"] if log_format == "json" else said
    assert QUOTED not in said
    assert "KeyError: (its message is withheld" in told and "RuntimeError: no kernel image" in told
    assert told.index("KeyError") < told.index("which led to") < told.index("RuntimeError") and "in broken" in told
    if log_format == "text":
        head, *rest = said.splitlines()
        assert head.endswith("api: a request broke request_id=r1")
        assert all(line.startswith("  ") for line in rest)


def test_a_group_of_exceptions_is_told_one_by_one(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "serve", "json")
    group = ExceptionGroup(QUOTED, [OSError(28, "No space left"), ValueError(QUOTED)])
    logging.getLogger("service").error("the tree broke", exc_info=group)
    told = json.loads(capsys.readouterr().err)["exception"]
    assert "OSError: [Errno 28] No space left" in told and "ValueError: (its" in told
    assert QUOTED not in told


@pytest.mark.parametrize("separator", ["\n", "\r", "\x1b[2K", "\u2028", "\x85"])
def test_no_text_makes_a_line_of_its_own(capsys: pytest.CaptureFixture[str], separator: str) -> None:
    configure_logging("info", "api")
    forged = f"x{separator}2026-01-01 00:00:00,000 INFO    api: request outcome=ok"
    logging.getLogger("service").info("told: %s", forged)
    logging.getLogger("service").info("told", extra=fields(name=forged))
    try:
        raise RuntimeError(forged)
    except RuntimeError:
        logging.getLogger("service").exception("told")
    lines = capsys.readouterr().err.splitlines()
    assert sum(not line.startswith("  ") for line in lines) == 3
    assert not any(line.startswith("2026-01-01") or "\x1b" in line for line in lines)


def test_libraries_debugging_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("debug", "api")
    logging.getLogger("PIL.PngImagePlugin").debug("STREAM b'tEXt' what a client wrote")
    logging.getLogger("PIL").info("a library's information")
    logging.getLogger("service.anything").debug("ours")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("api: ")[1] for line in lines] == ["a library's information", "ours"]


def test_nothing_stands_between_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "worker paint", "json")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("an old name", DeprecationWarning, stacklevel=1)
        logging.captureWarnings(False)
    thread = threading.Thread(target=broken)
    thread.start()
    thread.join()
    try:
        broken()
    except RuntimeError as error:
        sys.excepthook(type(error), error, error.__traceback__)
    sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["level"] for line in lines] == ["warning", "critical", "critical"]
    assert "an old name" in lines[0]["message"]
    assert all("RuntimeError: no kernel image" in line["exception"] for line in lines[1:])
