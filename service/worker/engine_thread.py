"""The one thread that owns an engine: nothing else touches the model.

What an engine raises in `image_key` and `admit` is that job's failure, in `step` that of its jobs. Anything else that
is raised, here or by who listens, is told as `on_broken`: the process ends, and its jobs go to others.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from typing import Protocol

from models.jobs import Engine, EngineEvent, EngineLoad, Failed, Generated, Job, JobRejected

_log = logging.getLogger(__name__)


# Job id, fencing token of the delivery it belongs to, event
TokenEvent = tuple[str, int, EngineEvent]


class Listener(Protocol):
    """What the thread tells, on the event loop."""

    def on_loaded(self, engine: Engine, load_s: float) -> None: ...

    def on_load_failed(self, error: BaseException) -> None: ...

    def on_image_wanted(self, job: Job, token: int, key: str) -> None: ...

    def on_events(self, events: list[TokenEvent], capacity: int, admitted: int) -> None: ...

    def on_step_failed(self, error: Exception, job_ids: list[str], capacity: int) -> None: ...

    def on_broken(self, error: BaseException) -> None: ...


class EngineThread:
    """Loads the engine, then alternates between what it is asked and `engine.step()`."""

    def __init__(self, load: Callable[[], Engine], listener: Listener) -> None:
        self._load = load
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._asked: SimpleQueue[Callable[[Engine], None] | None] = SimpleQueue()
        self._tokens: dict[str, int] = {}  # of the jobs that the engine holds, by job id
        self._admitted = 0  # since the last report
        self._events: list[TokenEvent] = []
        self._step_started_s: float | None = None
        self._told_capacity = 0
        self._engine: Engine | None = None
        self.load_of_engine = EngineLoad()  # after its last call, for who tells of it
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def has_ended(self) -> bool:
        """Whether it has begun and is over, asked to or not."""
        return self._thread.ident is not None and not self._thread.is_alive()

    @property
    def step_age_s(self) -> float:
        """How long the engine's call in progress, mostly a step, has run; 0 between calls."""
        started_s = self._step_started_s
        return 0.0 if started_s is None else time.monotonic() - started_s

    @property
    def failure(self) -> str:
        """What the engine needs and has lost for good, even while a call of it hangs; empty: nothing."""
        failure: str = getattr(self._engine, "failure", "")
        return failure

    def admit(self, job: Job, token: int, has_looked: bool = False) -> None:
        """Hand a job to the engine. Unless `has_looked`, its image may be asked for first."""
        self._asked.put(lambda engine: self._admit(engine, job, token, has_looked))

    def cancel(self, job_id: str) -> None:
        self._asked.put(lambda engine: self._cancel(engine, job_id))

    def stop(self, wait_s: float) -> bool:
        """Ask it to end after its step. Returns whether it did in time."""
        self._asked.put(None)
        self._thread.join(wait_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        started_s = time.monotonic()
        try:
            engine = self._engine = self._load()
        except BaseException as error:
            self._tell(self._listener.on_load_failed, error)
            return
        self._tell(self._listener.on_loaded, engine, time.monotonic() - started_s)
        try:
            self._work(engine)
            if (close := getattr(engine, "close", None)) is not None:  # it has processes of its own
                close()
        except BaseException as error:
            self._tell(self._listener.on_broken, error)

    def _work(self, engine: Engine) -> None:
        while self._do_asked(engine):
            if self._tokens:
                self._step(engine)
            self.load_of_engine = getattr(engine, "load", self.load_of_engine)
            capacity = engine.capacity  # it falls as answers grow, without any event
            if self._events or self._admitted or capacity != self._told_capacity:
                events, admitted = self._events, self._admitted
                self._events, self._admitted, self._told_capacity = [], 0, capacity
                self._tell(self._listener.on_events, events, capacity, admitted)

    def _do_asked(self, engine: Engine) -> bool:
        """All that was asked for; waits for something while there is no job. False: to end."""
        while True:
            if self._asked.empty() and (self._tokens or self._events or self._admitted):
                return True
            request = self._next_asked(engine)
            if request is None:
                return False
            request(engine)

    def _next_asked(self, engine: Engine) -> Callable[[Engine], None] | None:
        """What is asked for next; until then the engine rests, if it has a way to."""
        rest: Callable[[], float | None] | None = getattr(engine, "rest", None)
        while rest is not None and self._asked.empty():
            with self._timed():
                wait_s = rest()
            if wait_s is None:
                break
            with suppress(Empty):
                return self._asked.get(timeout=wait_s)
        return self._asked.get()

    def _admit(self, engine: Engine, job: Job, token: int, has_looked: bool) -> None:
        try:
            with self._timed():
                key = None if has_looked else engine.image_key(job)
                if not key:
                    engine.admit(job)
            if key:
                self._tell(self._listener.on_image_wanted, job, token, key)
                return
        except JobRejected as rejection:
            self._events.append((job.job_id, token, Failed(code=rejection.code, message=rejection.message)))
        except Exception as error:
            _log.exception("job %s: the engine could not take it", job.job_id)
            failed = Failed(code="job_failed", message=f"job {job.job_id} failed: {one_line(error)}")
            self._events.append((job.job_id, token, failed))
        else:
            self._tokens[job.job_id] = token
        self._admitted += 1

    def _cancel(self, engine: Engine, job_id: str) -> None:
        with self._timed():
            engine.cancel(job_id)
        if self._tokens.pop(job_id, None) is not None:
            self._tell(self._listener.on_events, [], engine.capacity, 0)

    def _step(self, engine: Engine) -> None:
        try:
            with self._timed():
                events = engine.step()
        except Exception as error:
            _log.exception("a step failed with %d jobs", len(self._tokens))
            failed = list(self._tokens)
            for job_id in failed:
                engine.cancel(job_id)
            self._tokens.clear()
            self._tell(self._listener.on_step_failed, error, failed, engine.capacity)
            return
        for job_id, event in events:
            self._events.append((job_id, self._tokens.get(job_id, 0), event))
            if isinstance(event, Generated | Failed):
                self._tokens.pop(job_id, None)

    @contextmanager
    def _timed(self) -> Iterator[None]:
        """One call of the engine, for who watches whether it hangs."""
        self._step_started_s = time.monotonic()
        try:
            yield
        finally:
            self._step_started_s = None

    def _tell(self, callback: Callable[..., None], *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(self._hear, callback, *arguments)
        except RuntimeError:  # the loop is closed: nobody listens any more
            pass

    def _hear(self, callback: Callable[..., None], *arguments: object) -> None:
        """On the event loop, which would log what a callback raises and go on with jobs that nobody counts right."""
        try:
            callback(*arguments)
        except Exception as error:
            self._listener.on_broken(error)


def one_line(error: BaseException) -> str:
    """What was raised, in words that fit an answer."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
