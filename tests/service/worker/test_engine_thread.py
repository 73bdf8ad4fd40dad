"""The thread that owns an engine: what it tells, in which order, and that no job's failure ends it."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from models.jobs import (
    ChatJob,
    Delta,
    Engine,
    EngineConfig,
    EngineEvent,
    EngineLoad,
    Failed,
    Generated,
    ImageEmbeddingsComputed,
    Job,
)
from service.worker.engine_thread import EngineThread, TokenEvent
from tests.service.engines import ScriptedEngine
from tests.service.tree import eventually


class Listening:
    """Keeps what it is told, and by which thread."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.events: list[TokenEvent] = []
        self.wanted: list[tuple[Job, int, str]] = []
        self.failed: list[tuple[str, list[str]]] = []
        self.load_error: BaseException | None = None
        self.broken: list[BaseException] = []
        self.raises: Exception | None = None  # what it answers the next events with
        self.admitted = 0
        self.capacity = -1
        self.threads: set[threading.Thread] = set()

    def _heard(self, call: str) -> None:
        self.calls.append(call)
        self.threads.add(threading.current_thread())

    def on_loaded(self, engine: Engine, load_s: float) -> None:
        self._heard("loaded")
        self.capacity = engine.capacity

    def on_load_failed(self, error: BaseException) -> None:
        self._heard("load_failed")
        self.load_error = error

    def on_image_wanted(self, job: Job, token: int, key: str) -> None:
        self._heard("image_wanted")
        self.wanted.append((job, token, key))

    def on_events(self, events: list[TokenEvent], capacity: int, admitted: int) -> None:
        self._heard("events")
        if self.raises is not None:
            raise self.raises
        self.events += events
        self.capacity = capacity
        self.admitted += admitted

    def on_step_failed(self, error: Exception, job_ids: list[str], capacity: int) -> None:
        self._heard("step_failed")
        self.failed.append((str(error), job_ids))
        self.capacity = capacity

    def on_broken(self, error: BaseException) -> None:
        self._heard("broken")
        self.broken.append(error)

    def of(self, job_id: str) -> list[EngineEvent]:
        return [event for told_id, _, event in self.events if told_id == job_id]

    def has_ended(self, *job_ids: str) -> bool:
        return all(self.of(job_id) and isinstance(self.of(job_id)[-1], Generated | Failed) for job_id in job_ids)


class Engines(ScriptedEngine):
    """The scripted engine, with what can break outside of a step."""

    steps = 0
    breaks_in = ""  # where, from the first admitted job on
    cancel_s = 0.0

    @property
    def capacity(self) -> int:
        if self.breaks_in == "capacity" and self.steps:
            raise RuntimeError("in capacity")
        return super().capacity

    def cancel(self, job_id: str) -> None:
        time.sleep(self.cancel_s)
        if self.breaks_in == "cancel":
            raise RuntimeError("in cancel")
        super().cancel(job_id)

    def image_key(self, job: Job) -> str | None:
        assert isinstance(job, ChatJob)
        if job.question == "no key":
            raise ValueError("no key can be made")
        return super().image_key(job)

    def admit(self, job: Job) -> None:
        assert isinstance(job, ChatJob)
        if job.question == "break":
            raise RuntimeError("cannot\ntake it")
        if job.question == "exit":
            raise SystemExit("in admit")
        super().admit(job)

    def step(self) -> list[tuple[str, EngineEvent]]:
        self.steps += 1
        return super().step()


def create() -> Engines:
    return Engines(EngineConfig(kind="chat", checkpoint="", max_jobs=3), lambda name, value: None)


@pytest.fixture
def listening() -> Listening:
    return Listening()


@pytest.fixture
async def start(listening: Listening) -> AsyncIterator[Callable[..., EngineThread]]:
    started: list[EngineThread] = []

    def make(load: Callable[[], Any] = create) -> EngineThread:
        started.append(EngineThread(load, listening))
        started[-1].start()
        return started[-1]

    yield make
    for thread in started:
        assert await asyncio.to_thread(thread.stop, 5.0)


Start = Callable[..., EngineThread]


def job(job_id: str, question: str, **fields: Any) -> ChatJob:
    return ChatJob(job_id=job_id, question=question, **fields)


async def test_jobs_run_side_by_side_and_all_is_told_on_the_event_loop(listening: Listening, start: Start) -> None:
    thread = start()
    thread.admit(job("a", "stream 3"), 1)
    thread.admit(job("b", "echo yes"), 2)
    await eventually(lambda: listening.has_ended("a", "b"))
    assert [type(event) for event in listening.of("a")] == [Delta, Delta, Delta, Generated]
    assert {token for job_id, token, _ in listening.events if job_id == "a"} == {1}
    assert {token for job_id, token, _ in listening.events if job_id == "b"} == {2}
    assert listening.calls[0] == "loaded" and listening.threads == {threading.main_thread()}
    await eventually(lambda: (listening.admitted, listening.capacity) == (2, 3))


class Filling(Engines):
    """One whose memory fills as answers grow."""

    @property
    def capacity(self) -> int:
        return 3 - min(self.steps, 3)

    @property
    def load(self) -> EngineLoad:
        return EngineLoad(running=1, kv_blocks=9, kv_blocks_used=self.steps)

    def step(self) -> list[tuple[str, EngineEvent]]:
        self.steps += 1
        time.sleep(0.01)
        return []


async def test_capacity_that_falls_without_any_event_is_told(listening: Listening, start: Start) -> None:
    engine = Filling(EngineConfig(kind="chat", checkpoint="", max_jobs=3), lambda name, value: None)
    thread = start(lambda: engine)
    thread.admit(job("a", "echo yes"), 1)
    await eventually(lambda: listening.capacity == 0)
    assert listening.events == [] and thread.load_of_engine.running == 1
    assert thread.load_of_engine.kv_blocks_used >= 3


class Resting(ScriptedEngine):
    """Lets something go in its third rest."""

    rests = 0

    def rest(self) -> float | None:
        self.rests += 1
        return 0.05 if self.rests % 3 else None


async def test_an_engine_without_a_job_rests_as_often_as_it_wants(listening: Listening, start: Start) -> None:
    engine = Resting(EngineConfig(kind="chat", checkpoint="", max_jobs=3), lambda name, value: None)
    began_s = time.monotonic()
    thread = start(lambda: engine)
    await eventually(lambda: engine.rests == 3)
    assert time.monotonic() - began_s > 0.1
    await asyncio.sleep(0.2)
    assert engine.rests == 3, "it wants no more"
    for job_id, rests in (("a", 4), ("b", 5)):  # a job comes at once, also during a rest
        thread.admit(job(job_id, "echo yes"), 1)
        await eventually(lambda job_id=job_id: listening.has_ended(job_id))
        assert engine.rests >= rests


@pytest.mark.slow
async def test_a_rest_that_hangs_shows(listening: Listening, start: Start) -> None:
    engine = Resting(EngineConfig(kind="chat", checkpoint="", max_jobs=3), lambda name, value: None)
    engine.rest = lambda: time.sleep(0.5)  # type: ignore[method-assign]
    thread = start(lambda: engine)
    await eventually(lambda: thread.step_age_s > 0.1)
    await eventually(lambda: thread.step_age_s == 0)


async def test_nothing_is_done_while_there_is_no_job(listening: Listening, start: Start) -> None:
    engine = create()
    thread = start(lambda: engine)
    thread.admit(job("a", "stream 2"), 1)
    await eventually(lambda: listening.has_ended("a"))
    steps, calls = engine.steps, len(listening.calls)
    used_s = time.process_time()
    await asyncio.sleep(0.2)
    assert (engine.steps, len(listening.calls)) == (steps, calls) and thread.step_age_s == 0
    assert time.process_time() - used_s < 0.1


async def test_a_failed_load_is_told_and_ends_the_thread(listening: Listening, start: Start) -> None:
    def fail() -> None:
        raise MemoryError("no room")

    thread = start(fail)
    await eventually(lambda: listening.load_error is not None)
    assert isinstance(listening.load_error, MemoryError) and listening.calls == ["load_failed"]
    assert await asyncio.to_thread(thread.stop, 1.0)


@pytest.mark.parametrize(
    ("question", "code", "message"),
    [
        ("reject", "context_length_exceeded", "too long"),
        ("break", "job_failed", "job bad failed: RuntimeError: cannot take it"),
        ("no key", "job_failed", "job bad failed: ValueError: no key can be made"),
    ],
)
async def test_a_job_that_cannot_be_taken_fails_alone(
    listening: Listening, start: Start, question: str, code: str, message: str
) -> None:
    thread = start()
    thread.admit(job("bad", question), 1)
    thread.admit(job("good", "echo yes"), 2)
    await eventually(lambda: listening.has_ended("bad", "good"))
    assert listening.of("bad") == [Failed(code=code, message=message)]
    assert isinstance(listening.of("good")[-1], Generated)
    assert listening.admitted == 2, "both places are free again"


async def test_a_failed_step_drops_its_jobs_and_the_next_ones_run(listening: Listening, start: Start) -> None:
    thread = start()
    thread.admit(job("a", "raise"), 1)
    await eventually(lambda: listening.failed)
    [(error, job_ids)] = listening.failed
    assert "as told" in error and job_ids == ["a"] and listening.capacity == 3
    thread.admit(job("b", "echo yes"), 2)
    await eventually(lambda: listening.has_ended("b"))
    assert listening.of("a") == []


async def test_an_image_is_asked_for_before_the_job_is_admitted(listening: Listening, start: Start) -> None:
    thread = start()
    pictured = job("a", "echo yes", image_key="k", pixels=b"rgb")
    thread.admit(pictured, 4)
    await eventually(lambda: listening.wanted)
    assert listening.wanted == [(pictured, 4, "k")] and listening.admitted == 0
    thread.admit(pictured, 4, has_looked=True)
    await eventually(lambda: listening.has_ended("a"))
    assert len(listening.wanted) == 1
    assert any(isinstance(event, ImageEmbeddingsComputed) for event in listening.of("a"))


async def test_a_cancelled_job_says_no_more_and_frees_its_place(listening: Listening, start: Start) -> None:
    thread = start()
    thread.admit(job("a", "stream 1000000"), 1)
    await eventually(lambda: len(listening.of("a")) > 3)
    thread.cancel("a")
    thread.cancel("unknown")
    await eventually(lambda: listening.capacity == 3)
    said = len(listening.of("a"))
    thread.admit(job("b", "echo yes"), 2)
    await eventually(lambda: listening.has_ended("b"))
    assert len(listening.of("a")) == said and not listening.has_ended("a")


@pytest.mark.slow
async def test_a_long_step_shows_its_age_and_outlives_a_short_wait(listening: Listening, start: Start) -> None:
    thread = start()
    thread.admit(job("a", "hang 0.6"), 1)
    await eventually(lambda: thread.step_age_s > 0.1)
    assert not thread.stop(0.01)
    await eventually(lambda: thread.step_age_s == 0)
    assert await asyncio.to_thread(thread.stop, 2.0)


@pytest.mark.parametrize(
    ("breaks_in", "questions", "message"),
    [
        ("capacity", ["stream 1000"], "in capacity"),
        ("cancel", ["stream 1000000"], "in cancel"),
        ("cancel", ["raise"], "in cancel"),  # of the jobs of a failed step
        ("", ["stream 1000000", "exit"], "in admit"),
    ],
)
async def test_what_breaks_outside_of_a_step_is_told_and_ends_the_thread(
    listening: Listening, start: Start, breaks_in: str, questions: list[str], message: str
) -> None:
    engine = create()
    engine.breaks_in = breaks_in
    thread = start(lambda: engine)
    await eventually(lambda: listening.calls == ["loaded"])
    assert not thread.has_ended
    for job_id, question in zip("ab", questions, strict=False):
        thread.admit(job(job_id, question), 1)
    if questions == ["stream 1000000"]:
        await eventually(lambda: listening.of("a"))
        thread.cancel("a")
    await eventually(lambda: listening.broken)
    [error] = listening.broken
    assert str(error) == message and listening.calls[-1] == "broken"
    await eventually(lambda: thread.has_ended)


async def test_a_listener_that_raises_is_told_of_it(listening: Listening, start: Start) -> None:
    """The event loop would log it and go on, with jobs that nobody counts right."""
    listening.raises = ValueError("a bug of the loop's side")
    thread = start()
    thread.admit(job("a", "echo yes"), 1)
    await eventually(lambda: listening.broken)
    assert listening.broken == [listening.raises]


@pytest.mark.slow
async def test_any_call_that_hangs_shows_its_age(listening: Listening, start: Start) -> None:
    engine = create()
    engine.cancel_s = 0.4
    thread = start(lambda: engine)
    await eventually(lambda: listening.calls == ["loaded"])
    thread.cancel("unknown")
    await eventually(lambda: thread.step_age_s > 0.1)
    await eventually(lambda: thread.step_age_s == 0)
