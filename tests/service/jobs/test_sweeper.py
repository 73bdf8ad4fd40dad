"""The sweeper: what it ends, how it says so, and that nothing stops it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from service.core.errors import BusUnavailable
from service.core.settings import Settings
from service.jobs.sweeper import Sweeper
from service.queue.record import SweepCounts
from service.redis.connection import RedisServers
from tests.service.jobs.rig import ApiProcess, WorkerSide, answered, api_process
from tests.service.tree import eventually, make_job


class Rounds:
    """Counts rounds; each does what it is told next, the last again and again."""

    def __init__(self, *sweeps: SweepCounts | Exception, adopted: int = 0) -> None:
        self._sweeps = list(sweeps) or [SweepCounts()]
        self._adopted = adopted
        self.count = 0

    async def sweep(self) -> SweepCounts:
        told = self._sweeps[min(self.count, len(self._sweeps) - 1)]
        self.count += 1
        if isinstance(told, Exception):
            raise told
        return told

    async def adopt(self) -> int:
        return self._adopted

    async def make_room(self) -> int:
        return 5 if self._adopted else 0


@pytest.fixture
async def start() -> AsyncIterator[Callable[[Rounds, float], Awaitable[Sweeper]]]:
    started: list[Sweeper] = []

    async def make(rounds: Rounds, sweep_s: float) -> Sweeper:
        started.append(Sweeper(rounds.sweep, rounds.adopt, rounds.make_room, sweep_s))
        started[-1].start()
        return started[-1]

    yield make
    for sweeper in started:
        await sweeper.close()


Start = Callable[[Rounds, float], Awaitable[Sweeper]]


async def test_no_failure_of_a_round_is_the_last(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    rounds = Rounds(BusUnavailable("Redis does not answer"), RuntimeError("a bug"), SweepCounts())
    await start(rounds, 0.01)
    await eventually(lambda: rounds.count >= 5)
    [error] = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert error.message.startswith("task sweeper failed, "), "Redis being away is no news here"
    assert "a bug" in caplog.text


@pytest.mark.slow
async def test_rounds_come_about_as_often_as_told_and_end_with_it(start: Start) -> None:
    rounds = Rounds()
    sweeper = await start(rounds, 0.04)
    await asyncio.sleep(0.41)
    assert 4 <= rounds.count <= 14
    await sweeper.close()
    ended = rounds.count
    await asyncio.sleep(0.1)
    assert rounds.count == ended
    never_started = Sweeper(rounds.sweep, rounds.adopt, rounds.make_room, 1.0)
    await never_started.close()


async def test_a_round_is_told_where_it_ended_something(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    idle = Rounds()
    await Sweeper(idle.sweep, idle.adopt, idle.make_room, 1.0).sweep_once()
    assert caplog.text == ""
    busy = Rounds(SweepCounts(expired=1, overdue=2, lost=3, unserved=5), adopted=4)
    await Sweeper(busy.sweep, busy.adopt, busy.make_room, 1.0).sweep_once()
    assert (
        "swept: 1 slots without a job, 2 overdue jobs, 3 lost jobs, 5 jobs without a worker, 4 abandoned results"
        in caplog.text
    )
    assert "dropped 5 conversations" in caplog.text


@pytest.mark.waiting
async def test_slots_overdue_jobs_and_abandoned_results_end(
    servers: RedisServers, settings: Settings, chat_worker: WorkerSide
) -> None:
    hurried = settings.model_copy(update={"slot_lease_s": 0.2, "chat_deadline_s": 30.0, "lease_s": 0.3})
    async with (
        api_process(servers, hurried, process_id="left") as left,
        api_process(servers, hurried, process_id="other") as other,
    ):
        sweeper = Sweeper(other.producer.sweep, other.finalizer.adopt_abandoned, other.conversations.make_room, 0.05)
        sweeper.start()
        await left.queue.reserve("chat", "never-submitted", "t")
        await left.submit(make_job("chat", "abandoned", "q"))  # type: ignore[arg-type]
        await chat_worker.take()
        await chat_worker.say(answered("fine"))

        async def has(job_id: str, state: str) -> bool:
            record = await other.producer.record(job_id)
            return record is not None and record.state == state

        await eventually(lambda: has("never-submitted", "failed"))
        await eventually(lambda: has("abandoned", "done"))
        await sweeper.close()


async def test_a_sweep_leaves_what_is_cared_for(api: ApiProcess) -> None:
    await api.queue.reserve("chat", "young", "t")
    await Sweeper(api.producer.sweep, api.finalizer.adopt_abandoned, api.conversations.make_room, 1.0).sweep_once()
    record = await api.producer.record("young")
    assert record is not None and record.state == "reserved"
