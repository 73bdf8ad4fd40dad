"""From a result to its ending: once, whoever asks and however many, and by another process where the first is gone."""

import asyncio
from contextlib import suppress

import msgspec
import pytest
import redis.asyncio

from models.jobs import ChatJob, PaintJob
from service.core.settings import Settings
from service.jobs.answers import Outcome, PaintResponse, answer_of
from service.jobs.sweeper import Sweeper
from service.queue.record import Ending
from service.redis.connection import RedisServers
from tests.service.jobs.rig import (
    ApiProcess,
    WordScreens,
    WorkerSide,
    answered,
    api_process,
    chat_intent,
    painted,
    parts_of,
    state_of,
    word_in,
)
from tests.service.tree import eventually, quick_settings


async def test_candidates_that_pass_are_the_answer(
    api: ApiProcess, screens: WordScreens, paint_worker: WorkerSide
) -> None:
    stream = await api.submit(PaintJob(job_id="job", prompt="p"))
    await paint_worker.take()
    await paint_worker.say(painted("bad one", "good one", "bad two", "good two", "good three"))
    [outcome] = await parts_of(stream)
    assert isinstance(outcome, Outcome)
    answer = answer_of(outcome, "job")
    assert isinstance(answer, PaintResponse)
    assert [word_in(picture.b64_json) for picture in answer.data] == ["good one", "good two"]
    assert [content for stage, content in screens.seen if stage == "candidate"][:4] == [
        "bad one",
        "good one",
        "bad two",
        "good two",
    ]


async def test_without_any_safe_candidate_the_job_is_refused(api: ApiProcess, paint_worker: WorkerSide) -> None:
    stream = await api.submit(PaintJob(job_id="job", prompt="p"))
    await paint_worker.take()
    await paint_worker.say(painted("bad one", "bad two"))
    [outcome] = await parts_of(stream)
    assert isinstance(outcome, Outcome) and outcome.answer is None
    assert (outcome.ending.state, outcome.ending.code) == ("refused", "content_policy_violation")


async def test_a_result_that_nobody_waited_for_is_screened_all_the_same(
    client: "redis.asyncio.Redis", servers: RedisServers, api: ApiProcess, settings: Settings, chat_worker: WorkerSide
) -> None:
    async with api_process(servers, settings, process_id="api-2") as dying:
        for answer in ("bad", "fine", "crash"):
            await dying.submit(ChatJob(job_id=answer, question="q"))
            await chat_worker.take()
            await chat_worker.say(answered(answer))
        assert await api.finalizer.adopt_abandoned() == 0  # their process lives
    assert await api.finalizer.adopt_abandoned() == 3
    for job_id, state in (("bad", "refused"), ("fine", "done"), ("crash", "failed")):
        status = await api.queue.status(job_id)
        assert status is not None and status.ending is not None and status.ending.state == state
    assert await client.zcard("{viscpm}:pending_moderation") == 0


@pytest.mark.slow
async def test_polls_and_resumed_streams_of_several_processes_screen_and_encode_once(
    servers: RedisServers, api: ApiProcess, settings: Settings, screens: WordScreens, paint_worker: WorkerSide
) -> None:
    """100 polls and 10 resumed streams of one job while it is screened, half of them at another process."""
    async with api_process(servers, settings, process_id="api-2") as other:
        processes = (api, other)
        stream = await api.submit(PaintJob(job_id="job", prompt="p"))
        await paint_worker.take()
        screens.delay_s = 0.5
        followers = [asyncio.create_task(parts_of(processes[i % 2].queue.follow("paint", "job"))) for i in range(10)]
        await paint_worker.say(painted("one", "bad", "two"))
        polls = [asyncio.create_task(processes[i % 2].queue.status("job")) for i in range(100)]
        waited = await parts_of(stream)
        assert state_of(waited[-1]) == "done"
        for parts in await asyncio.gather(*followers):
            assert state_of(parts[-1]) == "done" and parts[-1].answer == waited[-1].answer  # type: ignore[union-attr]
        states = {record.state for record in await asyncio.gather(*polls) if record is not None}
        assert states <= {"generated", "done"}
        candidates = sorted(content for stage, content in screens.seen if stage == "candidate")
        assert candidates == ["bad", "one", "two"] and other.screens.seen == []  # type: ignore[attr-defined]
        assert (api.labels.encoded, other.labels.encoded) == (2, 0)


async def test_a_screen_that_was_away_for_a_while_costs_no_picture(
    api: ApiProcess, screens: WordScreens, paint_worker: WorkerSide
) -> None:
    stream = await api.submit(PaintJob(job_id="job", prompt="p"))
    await paint_worker.take()
    screens.is_away = True
    await paint_worker.say(painted("one", "two"))
    waiting = asyncio.create_task(stream.outcome())
    await eventually(lambda: len(screens.seen) >= 5)  # asked for again and again
    assert not waiting.done()
    screens.is_away = False
    assert (await waiting).ending.state == "done"
    stream.close()


@pytest.mark.slow
async def test_a_screen_that_stays_away_fails_the_job_at_its_deadline(
    servers: RedisServers, redis_url: str, screens: WordScreens, paint_worker: WorkerSide
) -> None:
    async with api_process(servers, quick_settings(redis_url, paint_deadline_s=1.0), screens) as api:
        stream = await api.submit(PaintJob(job_id="job", prompt="p"))
        await paint_worker.take()
        screens.is_away = True
        await paint_worker.say(painted("one", "two"))
        [outcome] = await parts_of(stream)
        assert isinstance(outcome, Outcome)
        assert (outcome.ending.state, outcome.ending.code) == ("failed", "safety_unavailable")


async def test_what_one_process_could_not_screen_another_does(
    servers: RedisServers, api: ApiProcess, settings: Settings, paint_worker: WorkerSide
) -> None:
    away = WordScreens(is_away=True)
    async with api_process(servers, settings, away, process_id="api-2") as dying:
        stream = await dying.submit(PaintJob(job_id="job", prompt="p"))
        await paint_worker.take()
        await paint_worker.say(painted("one", "two"))
        waiting = asyncio.create_task(stream.outcome())
        await eventually(lambda: len(away.seen) >= 2)
        waiting.cancel()
    sweeper = Sweeper(api.producer.sweep, api.finalizer.adopt_abandoned, api.conversations.make_room, sweep_s=0.05)
    sweeper.start()

    async def is_done() -> bool:
        record = await api.producer.record("job")
        return record is not None and record.state == "done"

    await eventually(is_done)
    await sweeper.close()


@pytest.mark.waiting
async def test_a_long_screening_keeps_its_lease(
    servers: RedisServers, api: ApiProcess, settings: Settings, screens: WordScreens, paint_worker: WorkerSide
) -> None:
    async with api_process(servers, settings, process_id="api-2") as other:
        stream = await api.submit(PaintJob(job_id="job", prompt="p"))
        await paint_worker.take()
        screens.delay_s = settings.lease_s * 2.5
        await paint_worker.say(painted("one", "two"))
        waiting = asyncio.create_task(stream.outcome())
        while not waiting.done():
            assert await other.finalizer.adopt_abandoned() == 0
            assert await other.finalizer.adopt("job") is None
            await asyncio.sleep(0.1)
        assert (await waiting).ending.state == "done"
        stream.close()


@pytest.mark.parametrize("kind", ["unknown", "running"])
async def test_there_is_nothing_to_adopt_without_a_result(api: ApiProcess, chat_worker: WorkerSide, kind: str) -> None:
    if kind == "running":
        await api.submit(ChatJob(job_id="job", question="q"))
        await chat_worker.take()
    assert await api.finalizer.adopt("job") is None


async def test_a_client_that_leaves_while_a_screen_is_away_ends_the_waiting(
    api: ApiProcess, screens: WordScreens, paint_worker: WorkerSide
) -> None:
    stream = await api.submit(PaintJob(job_id="job", prompt="p"))
    await paint_worker.take()
    screens.is_away = True
    await paint_worker.say(painted("one", "two"))
    waiting = asyncio.create_task(stream.outcome())
    await eventually(lambda: len(screens.seen) >= 3)
    await api.queue.cancel("job", "client_gone")
    assert (await asyncio.wait_for(waiting, 5)).ending.state == "cancelled"
    stream.close()


@pytest.mark.waiting
async def test_a_lease_that_another_process_took_is_left_to_it(
    client: "redis.asyncio.Redis", api: ApiProcess, settings: Settings, screens: WordScreens, paint_worker: WorkerSide
) -> None:
    """As a process that froze for longer than its lease: it must not fail what the other one is about to finish."""
    stream = await api.submit(PaintJob(job_id="job", prompt="p"))
    await paint_worker.take()
    screens.is_away = True
    await paint_worker.say(painted("one", "two"))
    waiting = asyncio.create_task(stream.outcome())
    await eventually(lambda: len(screens.seen) >= 3)
    await client.hset("{viscpm}:finalizers", "job", "another")
    await client.zadd("{viscpm}:apis", {"another": 4e15})
    await client.zadd("{viscpm}:pending_moderation", {"job": 4e15})
    await asyncio.sleep(1.5)
    record = await api.producer.record("job")
    assert record is not None and record.state == "generated" and not waiting.done()
    await api.producer.finish("job", Ending("done", body=b""))
    with suppress(msgspec.DecodeError):  # that process' answer, which is none here
        await waiting
    stream.close()


async def test_a_sweep_waits_for_no_screen(
    client: "redis.asyncio.Redis",
    servers: RedisServers,
    api: ApiProcess,
    settings: Settings,
    screens: WordScreens,
    chat_worker: WorkerSide,
) -> None:
    async with api_process(servers, settings, process_id="api-2") as dying:
        for number in range(10):
            await dying.submit(ChatJob(job_id=str(number), question="q"))
            await chat_worker.take()
            await chat_worker.say(answered("fine"))
    screens.is_away = True
    async with asyncio.timeout(2):
        assert await api.finalizer.adopt_abandoned() == 8  # as many as are held in memory at once
        assert await api.finalizer.adopt_abandoned() == 0
    screens.is_away = False

    async def are_all_done() -> bool:
        await api.finalizer.adopt_abandoned()
        states = [await client.hget(f"{{viscpm}}:job:{number}", "state") for number in range(10)]
        return states == [b"done"] * 10

    await eventually(are_all_done)


async def test_of_a_question_without_a_conversation_nothing_is_kept(
    client: "redis.asyncio.Redis", api: ApiProcess, chat_worker: WorkerSide
) -> None:
    intent = msgspec.structs.replace(chat_intent(), conversation_id="", begun=None)
    stream = await api.submit(ChatJob(job_id="job", question="q"), intent)
    await chat_worker.take()
    await chat_worker.say(answered("fine"))
    [outcome] = await parts_of(stream)
    assert isinstance(outcome, Outcome) and outcome.ending.state == "done"
    assert answer_of(outcome, "job").conversation_id == ""  # type: ignore[union-attr]
    assert await client.keys("{viscpm}:conversation*") == []
