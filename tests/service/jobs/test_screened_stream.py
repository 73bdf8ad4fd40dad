"""What leaves of a job while it runs, and that all who follow it in one process cost one reading and one judging."""

import asyncio

import pytest

from models.jobs import ChatJob, PaintJob, Progress
from service.jobs.answers import ChatResponse, Outcome, answer_of
from service.jobs.screened_stream import DenoisingStep, JobStream, Part, Text
from service.queue.record import Ending
from tests.service.jobs.rig import (
    ApiProcess,
    WordScreens,
    WorkerSide,
    answered,
    deltas,
    painted,
    parts_of,
    png,
    state_of,
)
from tests.service.tree import eventually


@pytest.fixture
async def stream(api: ApiProcess, chat_worker: WorkerSide) -> JobStream:
    """Of a chat job that a worker has in hand."""
    stream = await api.submit(ChatJob(job_id="job", question="q"))
    await chat_worker.take()
    return stream


def texts(parts: list[Part]) -> str:
    return "".join(part.text for part in parts if isinstance(part, Text))


def answer_in(part: Part) -> ChatResponse:
    assert isinstance(part, Outcome)
    answer = answer_of(part, "job")
    assert isinstance(answer, ChatResponse)
    return answer


async def test_text_leaves_sentence_by_sentence(
    stream: JobStream, screens: WordScreens, chat_worker: WorkerSide
) -> None:
    await chat_worker.say(*deltas("One", " two. Th", "ree! 四", "五。Six. 3", ".5 seven"))
    await chat_worker.say(answered("One two. Three! 四五。Six. 3.5 seven"))
    *sent, ending = await parts_of(stream)
    assert [part.text for part in sent] == ["One two.", " Three!", " 四五。Six.", " 3.5 seven"]  # type: ignore[union-attr]
    assert [part.offset_chars for part in sent] == [0, 8, 15, 23]  # type: ignore[union-attr]
    assert state_of(ending) == "done"
    assert screens.seen[-1] == ("answer", "One two. Three! 四五。Six. 3.5 seven")  # the whole, once more


async def test_a_blocked_sentence_never_leaves_and_ends_the_job(
    api: ApiProcess, stream: JobStream, chat_worker: WorkerSide
) -> None:
    await chat_worker.say(*deltas("Fine. ", "This is b", "ad. ", "More. "))
    parts = await parts_of(stream)
    assert texts(parts) == "Fine."
    assert state_of(parts[-1]) == "refused"
    answer = answer_in(parts[-1])
    assert (answer.answer, answer.finish_reason, answer.seed) == ("Fine.", "content_filter", 7)
    record = await api.producer.record("job")
    assert record is not None and record.state == "refused"


async def test_a_sentence_is_judged_with_what_came_before_it(
    stream: JobStream, screens: WordScreens, chat_worker: WorkerSide
) -> None:
    await chat_worker.say(*deltas("A ba. ", "D one. ", "x" * 300 + ". ", "End. "), answered("whole"))
    await parts_of(stream)
    seen = [content for stage, content in screens.seen if stage == "answer"]
    assert seen[:2] == ["A ba.", "A ba. D one."]
    assert seen[3] == "x" * 199 + ". End." and seen[4:] == ["whole"]  # of a long past the last 200 characters


async def test_an_answer_blocked_as_a_whole_sends_no_rest(stream: JobStream, chat_worker: WorkerSide) -> None:
    await chat_worker.say(*deltas("Fine. ", "and then ba"), answered("Fine. and then bad"))
    parts = await parts_of(stream)
    assert texts(parts) == "Fine." and state_of(parts[-1]) == "refused"
    [result] = answer_in(parts[-1]).moderation["output"]["results"]  # type: ignore[index]
    assert result["stage"] == "answer" and result["flagged"] is True


@pytest.mark.parametrize("pieces", [["crash. "], []])
async def test_a_screen_that_crashes_on_the_answer_fails_the_job(
    stream: JobStream, chat_worker: WorkerSide, pieces: list[str]
) -> None:
    await chat_worker.say(*deltas(*pieces))
    if not pieces:
        await chat_worker.say(answered("crash"))
    [outcome] = await parts_of(stream)
    assert isinstance(outcome, Outcome)
    assert (outcome.ending.state, outcome.ending.code) == ("failed", "safety_unavailable")


async def test_sentences_wait_while_a_screen_is_away(
    stream: JobStream, screens: WordScreens, chat_worker: WorkerSide
) -> None:
    screens.is_away = True
    await chat_worker.say(*deltas("One. ", "Two. "))
    reading = asyncio.create_task(parts_of(stream))
    await eventually(lambda: len(screens.seen) == 3)  # the question and both sentences
    screens.is_away = False
    await chat_worker.say(*deltas("One. ", "Two. ", "Three. ")[2:], answered("One. Two. Three. "))
    parts = await reading
    assert [part.text for part in parts[:-1]] == ["One. Two. Three.", " "]  # type: ignore[union-attr]
    assert state_of(parts[-1]) == "done"


async def test_a_blocked_preview_is_left_out(api: ApiProcess, screens: WordScreens, paint_worker: WorkerSide) -> None:
    stream = await api.submit(PaintJob(job_id="job", prompt="p", previews=3))
    await paint_worker.take()
    previews = [png(word) for word in ("good", "bad", "crash")]
    for step, preview in enumerate([*previews, b""], start=1):
        await paint_worker.say(Progress(step=step, total_steps=4, preview_png=preview))
    await paint_worker.say(painted("good", "good too"))
    parts = await parts_of(stream)
    assert parts[:4] == [DenoisingStep(1, 4, previews[0]), *(DenoisingStep(step, 4) for step in (2, 3, 4))]
    assert state_of(parts[-1]) == "done"


async def test_all_followers_see_the_same_and_each_content_is_judged_once(
    api: ApiProcess, stream: JobStream, screens: WordScreens, chat_worker: WorkerSide
) -> None:
    screens.delay_s = 0.02
    early = [asyncio.create_task(parts_of(api.queue.follow("chat", "job"))) for _ in range(5)]
    await chat_worker.say(*deltas("One. ", "Two. "))
    late = [asyncio.create_task(parts_of(api.queue.follow("chat", "job"))) for _ in range(5)]
    await chat_worker.say(answered("One. Two. "))
    waited = await parts_of(stream)
    for parts in await asyncio.gather(*early, *late):
        assert parts == waited
    answers = [content for stage, content in screens.seen if stage == "answer"]
    assert answers == ["One.", "One. Two.", "One. Two. "]
    assert api.queue._streams == {}


async def test_a_follower_that_leaves_in_the_middle_takes_nothing_along(
    api: ApiProcess, stream: JobStream, screens: WordScreens, chat_worker: WorkerSide
) -> None:
    screens.delay_s = 0.2
    first = asyncio.create_task(parts_of(api.queue.follow("chat", "job")))
    await chat_worker.say(*deltas("One. ", "Two. "))
    await eventually(lambda: len(screens.seen) == 2)
    first.cancel()  # while the first sentence is judged for it
    screens.delay_s = 0.0
    await chat_worker.say(answered("One. Two. "))
    parts = await parts_of(stream)
    assert texts(parts) == "One. Two. " and state_of(parts[-1]) == "done"


async def test_whoever_ended_the_job_first_is_believed(
    api: ApiProcess, stream: JobStream, screens: WordScreens, chat_worker: WorkerSide
) -> None:
    screens.delay_s = 0.2
    await chat_worker.say(answered("fine"))
    reading = asyncio.create_task(parts_of(stream))
    await eventually(lambda: len(screens.seen) == 2)
    assert await api.producer.finish("job", Ending("cancelled", "deleted"))  # while the answer is judged
    [outcome] = await reading
    assert state_of(outcome) == "cancelled"
