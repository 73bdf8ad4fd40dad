"""How far something is, on the standard error: a bar with the time that is left, or a line now and then."""

import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Protocol

from service.client.output import is_for_people, note, printable, span_text

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

_LINE_EVERY_S = 5.0


class Progress(Protocol):
    def update(self, done: int, total: int, text: str = "") -> None: ...

    def wait(self, text: str) -> None:
        """Nothing is done yet, and why."""

    def pause(self) -> AbstractContextManager[None]:
        """While something else is drawn."""


@contextmanager
def progress(what: str, is_quiet: bool = False) -> Iterator[Progress]:
    """Of one piece of work; gone from a terminal with the block.

    Args:
        what: before the bar.
        is_quiet: show nothing.
    """
    if is_quiet:
        yield _Quiet()
    elif not is_for_people(sys.stderr):
        yield _Lines(what)
    else:
        with _bar(what) as drawn:
            yield drawn


class _Quiet:
    def update(self, done: int, total: int, text: str = "") -> None:
        pass

    def wait(self, text: str) -> None:
        pass

    def pause(self) -> AbstractContextManager[None]:
        return nullcontext()


class _Lines(_Quiet):
    """For logs: at most one line in five seconds, and none for what is done before."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._began_s = self._told_s = time.monotonic()
        self._done_at_first: int | None = None

    def update(self, done: int, total: int, text: str = "") -> None:
        now_s = time.monotonic()
        if self._done_at_first is None:
            self._done_at_first, self._began_s = done, now_s
        if now_s - self._told_s < _LINE_EVERY_S:
            return
        self._told_s = now_s
        advanced = done - self._done_at_first
        left = f", {span_text((now_s - self._began_s) * (total - done) / advanced)} left" if advanced > 0 else ""
        note(f"{self._what}: {done} of {total}{left}{f', {text}' if text else ''}")

    def wait(self, text: str) -> None:
        if time.monotonic() - self._told_s >= _LINE_EVERY_S:
            self._told_s = time.monotonic()
            note(f"{self._what}: {text}")


@contextmanager
def _bar(what: str) -> Iterator[Progress]:
    from rich import progress as rich_progress
    from rich.console import Console

    columns = (
        rich_progress.TextColumn("{task.description}", markup=False),
        rich_progress.BarColumn(),
        rich_progress.MofNCompleteColumn(),
        rich_progress.TimeRemainingColumn(),
        rich_progress.TextColumn("{task.fields[text]}", markup=False),
    )
    with rich_progress.Progress(*columns, console=Console(stderr=True), transient=True) as drawn:
        yield _Bar(drawn, printable(what))


class _Bar:
    def __init__(self, drawn: "RichProgress", what: str) -> None:
        self._drawn = drawn
        self._task = drawn.add_task(what, total=None, text="")

    def update(self, done: int, total: int, text: str = "") -> None:
        self._drawn.update(self._task, completed=done, total=total, text=printable(text))

    def wait(self, text: str) -> None:
        self._drawn.update(self._task, text=printable(text))

    @contextmanager
    def pause(self) -> Iterator[None]:
        self._drawn.stop()
        try:
            yield
        finally:
            self._drawn.start()
