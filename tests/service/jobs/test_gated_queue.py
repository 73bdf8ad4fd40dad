"""Nothing blocked gets in, on any way, and whoever asks for a job is told what may be told of it."""

import asyncio

import msgspec
import pytest
import redis.asyncio

from models.jobs import ChatJob, PaintJob, Turn
from safety.contents import Inputs
from safety.verdict import OpenScreens
from service.core.errors import ContentRefused, JobFailed, ScreenUnavailable, TooManyWatchers
from service.core.settings import Settings
from service.jobs.answers import ChatResponse, answer_of
from service.redis.connection import RedisServers
from tests.service.jobs.rig import (
    ApiProcess,
    WordScreens,
    WorkerSide,
    answered,
    api_process,
    chat_intent,
    deltas,
    parts_of,
    state_of,
)


async def test_inputs_that_pass_are_submitted_after_all_of_them_were_seen(
    api: ApiProcess, screens: WordScreens, paint_worker: WorkerSide
) -> None:
    await api.submit(PaintJob(job_id="job", prompt="a cat", negative_prompt="rain"))
    assert screens.seen == [("prompt", "a cat"), ("negative_prompt", "rain")]
    assert (await paint_worker.take()).job_id == "job"


@pytest.mark.parametrize(
    ("job", "stage"),
    [
        (ChatJob(job_id="job", question="bad words"), "question"),
        (PaintJob(job_id="job", prompt="fine", negative_prompt="bad"), "negative_prompt"),
        (ChatJob(job_id="job", question="fine", pixels=b"bad photo", image_size_px=1), "input_image"),
    ],
)
async def test_a_blocked_input_reaches_no_model_and_ends_refused(
    api: ApiProcess, client: "redis.asyncio.Redis", job: ChatJob | PaintJob, stage: str
) -> None:
    with pytest.raises(ContentRefused) as caught:
        await api.submit(job)
    assert caught.value.param == stage
    moderation = caught.value.extra["moderation"]["input"]  # type: ignore[index]
    [result] = moderation["results"]
    assert result["flagged"] is True and result["category_scores"] == {"violence": 0.9}
    record = await api.producer.record("job")
    assert record is not None and record.state == "refused"
    assert await client.exists("{viscpm}:jobs:chat", "{viscpm}:jobs:paint") == 0


async def test_a_crashed_screen_lets_nothing_in(api: ApiProcess, client: "redis.asyncio.Redis") -> None:
    with pytest.raises(ScreenUnavailable):
        await api.submit(ChatJob(job_id="job", question="crash"))
    record = await api.producer.record("job")
    assert record is not None and record.ending is not None
    assert (record.ending.state, record.ending.code) == ("failed", "safety_unavailable")
    assert await client.exists("{viscpm}:jobs:chat") == 0


async def test_open_screens_see_nothing_and_hold_nothing(
    servers: RedisServers, settings: Settings, chat_worker: WorkerSide
) -> None:
    async with api_process(servers, settings, OpenScreens()) as api:
        stream = await api.submit(ChatJob(job_id="job", question="bad crash"))
        await chat_worker.take()
        await chat_worker.say(*deltas("no end ", "of sentence bad"), answered("no end of sentence bad"))
        *sent, ending = await parts_of(stream)
        assert [part.text for part in sent] == ["no end ", "of sentence bad"]  # type: ignore[union-attr]
        assert state_of(ending) == "done" and api.queue.is_open


async def test_a_job_that_was_cancelled_before_it_was_queued_leaves_nothing(api: ApiProcess) -> None:
    await api.queue.reserve("chat", "job", "t")
    await api.queue.cancel("job", "client_gone")
    with pytest.raises(JobFailed, match="was cancelled before it could be queued"):
        await api.queue.submit(ChatJob(job_id="job", question="q"), chat_intent())
    assert api.queue._streams == {}


async def test_reading_a_generated_job_screens_it_first(api: ApiProcess, chat_worker: WorkerSide) -> None:
    stream = await api.submit(ChatJob(job_id="job", question="q"))
    stream.close()  # nobody waits for it
    await chat_worker.take()
    await chat_worker.say(answered("bad"))
    status = await api.queue.status("job")
    assert status is not None and status.ending is not None and status.ending.state == "refused"


async def test_a_poll_knows_what_a_stream_has_sent(
    api: ApiProcess, screens: WordScreens, chat_worker: WorkerSide
) -> None:
    """The poll is first at the result; the answer that is kept tells what the stream's client was sent all the same."""
    stream = await api.submit(ChatJob(job_id="job", question="q"))
    await chat_worker.take()
    await chat_worker.say(*deltas("Fine. ", "and then ba"))
    assert (await anext(stream)).text == "Fine."  # type: ignore[union-attr]
    await chat_worker.say(answered("Fine. and then bad"))
    status = await api.queue.status("job")
    assert status is not None and status.ending is not None and status.ending.state == "refused"
    answer = answer_of((await parts_of(stream))[-1], "job")  # type: ignore[arg-type]
    assert isinstance(answer, ChatResponse) and (answer.answer, answer.finish_reason) == ("Fine.", "content_filter")


@pytest.mark.waiting
async def test_polls_do_not_wait_for_a_slow_screening(
    api: ApiProcess, screens: WordScreens, chat_worker: WorkerSide
) -> None:
    stream = await api.submit(ChatJob(job_id="job", question="q"))
    await chat_worker.take()
    screens.delay_s = 1.8
    await chat_worker.say(answered("fine"))
    waiting = asyncio.create_task(stream.outcome())
    status = await api.queue.status("job")
    assert status is not None and status.state == "generated" and status.ending is None
    assert (await waiting).ending.state == "done"
    stream.close()


async def test_a_job_has_so_many_watchers_and_no_more(servers: RedisServers, settings: Settings) -> None:
    async with api_process(servers, settings.model_copy(update={"max_watchers": 2})) as api:
        own = await api.submit(ChatJob(job_id="job", question="fine"))  # does not count
        watching = [api.queue.watch("chat", "job") for _ in range(2)]
        with pytest.raises(TooManyWatchers, match="^2 clients follow this job already"):
            api.queue.watch("chat", "job")
        own.close()
        with pytest.raises(TooManyWatchers):
            api.queue.watch("chat", "job")
        watching[0].close()
        watching[0].close()  # again, and it counts once
        watching[0] = api.queue.watch("chat", "job")
        with pytest.raises(TooManyWatchers):
            api.queue.watch("chat", "job")
        api.queue.watch("chat", "another").close()
        for one in watching:
            one.close()
        assert not api.queue._streams


async def test_a_talk_that_the_client_keeps_is_judged_as_a_whole(api: ApiProcess, screens: WordScreens) -> None:
    intent = msgspec.structs.replace(chat_intent(), conversation_id="", begun=None, brought_turns=1)
    job = ChatJob(job_id="job", question="q", history=[Turn.of_plain("earlier", "bad < answer")])
    with pytest.raises(ContentRefused, match="an earlier answer in the request is not allowed here") as refused:
        await api.submit(job, intent)
    assert refused.value.param == "answer"
    assert screens.seen == [("question", "q"), ("question", "earlier"), ("answer", "bad < answer")]


async def test_what_makes_no_job_is_judged_too(api: ApiProcess, screens: WordScreens) -> None:
    await api.queue.require_allowed("conv-1", Inputs([("question", "q"), ("answer", "fine")]))
    with pytest.raises(ContentRefused, match="an earlier answer in the request") as refused:
        await api.queue.require_allowed("conv-1", Inputs([("question", "q"), ("answer", "bad")]))
    assert refused.value.param == "answer"
    with pytest.raises(ScreenUnavailable):
        await api.queue.require_allowed("conv-1", Inputs([("question", "crash")]))
    assert await api.producer.accounting() == dict.fromkeys(await api.producer.accounting(), 0)
