"""Lines of one form on stderr."""

import logging
import re
from collections.abc import Iterator

import pytest

from service.core.logs import configure_logging

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
    root.handlers = []  # not pytest's, which `force` would close
    for one in named:  # as in a new process, whatever ran in this one
        one.setLevel(logging.NOTSET)
        one.propagate, one.disabled, one.handlers = True, False, []
    yield
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
