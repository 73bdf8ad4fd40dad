"""The gate with screens that judge, over a bus that remembers: nothing blocked gets in or out, on any way."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import pytest

from safety.contents import Inputs, Passed, Result, Step, Text
from safety.gate import Gate, Refused, ScreenFailed
from safety.verdict import Decision, OpenScreens, Picture, Stage, Verdict


@dataclass
class WordScreens:
    """Blocks what holds `bad`; fails on what holds `crash`. Remembers what it saw."""

    are_open: bool = False
    seen: list[tuple[str, Any]] = field(default_factory=list)
    languages: list[str] = field(default_factory=list)

    async def text(self, stage: Stage, text: str) -> Verdict:
        return self._judge(stage, text)

    async def image(self, stage: Stage, picture: Picture, language: str = "") -> Verdict:
        self.languages.append(language)
        return self._judge(stage, picture.data.decode())

    def _judge(self, stage: Stage, content: str) -> Verdict:
        self.seen.append((stage, content))
        if "crash" in content:
            raise RuntimeError("screen crashed")
        language = "zh" if "猫" in content else ""
        decision: Decision = "block" if "bad" in content else "pass"
        return Verdict(stage, decision, {"violence": 0.9}, "words", language=language)


@dataclass
class Job:
    job_id: str
    texts: list[tuple[Stage, str]]
    picture: bytes = b""


@dataclass
class Ending:
    state: str
    content: Any = None


@dataclass
class Record:
    kind: str = "chat"
    state: str = "queued"
    tenant: str = ""
    intent: bytes = b"2"
    generated: bytes = b""
    ending: Ending | None = None
    created_ms: int = 1


class Bus:
    """One job's bus: what was submitted, what the worker will say, the ending that won."""

    def __init__(self, *events: Any) -> None:
        self.events = events
        self.submitted: list[Job] = []
        self.endings: list[Ending] = []
        self.stored = Record()

    async def reserve(self, kind: str, job_id: str, tenant: str) -> None: ...

    async def submit(self, job: Job, intent: bytes, busy_key: str) -> None:
        self.submitted.append(job)

    def subscribe(self, job_id: str) -> "BusWatch":
        return BusWatch(self)

    async def finish(self, job_id: str, ending: Ending, turn: Any) -> bool:
        if self.endings:
            return False
        self.endings.append(ending)
        self.stored.ending = ending
        return True

    async def cancel(self, job_id: str, reason: str) -> bool:
        return await self.finish(job_id, Ending("cancelled"), None)

    async def record(self, job_id: str) -> Record:
        return self.stored

    async def ungated(self) -> list[str]:
        return ["job"]


class BusWatch:
    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._left = iter(bus.events)
        self._is_over = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None: ...

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        if self._is_over:
            raise StopAsyncIteration
        if self._bus.endings:
            self._is_over = True
            return self._bus.endings[0]
        return next(self._left)


class Contents:
    """Events are already parts; an intent is the number of pictures wanted."""

    def inputs(self, job: Job) -> Inputs:
        return Inputs(job.texts, Picture(job.picture, "png") if job.picture else None)

    def part(self, event: Any) -> Any:
        return None if isinstance(event, Ending) else event

    def screened(self, intent: bytes, verdicts: Sequence[Verdict]) -> bytes:
        self.noted = verdicts
        return intent

    def wanted(self, intent: bytes) -> int:
        return int(intent)

    def language(self, intent: bytes) -> str:
        return "zh"

    def decode(self, generated: bytes) -> Any:
        return Result("decoded", answer=generated.decode())

    async def ending(self, job_id: str, intent: bytes, passed: Passed) -> tuple[Ending, None]:
        return Ending("refused" if passed.blocked else "done", passed), None

    def refusal(self, verdict: Verdict) -> Ending:
        return Ending("refused", verdict)

    def failure(self, code: str, message: str) -> Ending:
        return Ending("failed", code)


def gated(*events: Any, screens: Any = None) -> tuple[Gate, Bus, WordScreens]:
    bus, screens = Bus(*events), screens or WordScreens()
    return Gate(bus, screens, Contents()), bus, screens


async def watched(gate: Gate) -> list[Any]:
    async with gate.watch("job", b"2") as watch:
        return [part async for part in watch]


def texts(parts: list[Any]) -> str:
    return "".join(part.text for part in parts if isinstance(part, Text))


async def stream(*pieces: str) -> AsyncIterator[Text]:
    offset = 0
    for piece in pieces:
        yield Text(piece, offset)
        offset += len(piece)


async def test_inputs_that_pass_are_submitted_after_all_of_them_were_seen() -> None:
    gate, bus, screens = gated()
    await gate.submit(Job("job", [("prompt", "a cat"), ("negative_prompt", "rain")], b"photo"), b"1")
    assert screens.seen == [("prompt", "a cat"), ("negative_prompt", "rain"), ("input_image", "photo")]
    assert len(bus.submitted) == 1 and not bus.endings


@pytest.mark.parametrize(
    ("job", "stage"),
    [
        (Job("job", [("question", "bad words")]), "question"),
        (Job("job", [("prompt", "fine"), ("negative_prompt", "bad")]), "negative_prompt"),
        (Job("job", [("question", "fine")], b"bad photo"), "input_image"),
    ],
)
async def test_a_blocked_input_reaches_no_model_and_ends_refused(job: Job, stage: str) -> None:
    gate, bus, _ = gated()
    with pytest.raises(Refused) as caught:
        await gate.submit(job, b"1")
    assert caught.value.verdict.stage == stage
    assert bus.submitted == [] and [ending.state for ending in bus.endings] == ["refused"]
    moderation = caught.value.verdict.moderation()
    assert moderation["flagged"] is True and moderation["category_scores"] == {"violence": 0.9}


async def test_a_crashed_screen_lets_nothing_in() -> None:
    gate, bus, _ = gated()
    with pytest.raises(ScreenFailed):
        await gate.submit(Job("job", [("question", "crash")]), b"1")
    assert bus.submitted == [] and bus.endings == [Ending("failed", "safety_unavailable")]


async def test_open_screens_see_nothing_and_hold_nothing() -> None:
    pieces = [piece async for piece in stream("no end ", "of sentence bad")]
    gate, bus, _ = gated(*pieces, Result("r", answer="x"), screens=OpenScreens())
    await gate.submit(Job("job", [("question", "bad crash")]), b"1")
    *sent, ending = await watched(gate)
    assert sent == pieces and ending.state == "done" and gate.is_open


async def test_text_leaves_sentence_by_sentence() -> None:
    pieces = [piece async for piece in stream("One", " two. Th", "ree! 四", "五。Six. 3", ".5 seven")]
    gate, _, screens = gated(*pieces, Result("r", answer="One two. Three! 四五。Six. 3.5 seven"))
    parts = await watched(gate)
    assert [part.text for part in parts[:-1]] == ["One two.", " Three!", " 四五。Six.", " 3.5 seven"]
    assert [part.offset_chars for part in parts[:-1]] == [0, 8, 15, 23]
    assert parts[-1].state == "done"
    assert screens.seen[-1] == ("answer", "One two. Three! 四五。Six. 3.5 seven")  # the whole, once more


async def test_a_blocked_sentence_never_leaves_and_ends_the_job() -> None:
    pieces = [piece async for piece in stream("Fine. ", "This is b", "ad. ", "More. ")]
    gate, bus, _ = gated(*pieces, Result("r", answer="Fine. This is bad. More. "))
    parts = await watched(gate)
    assert texts(parts) == "Fine."
    assert parts[-1].state == "refused" and parts[-1].content.sent == "Fine."
    assert [ending.state for ending in bus.endings] == ["refused"]


async def test_a_sentence_is_judged_with_what_came_before_it() -> None:
    pieces = [piece async for piece in stream("A ba. ", "D one. ", "x" * 300 + ". ", "End. ")]
    gate, _, screens = gated(*pieces, Result("r", answer="whole"))
    await watched(gate)
    seen = [content for _, content in screens.seen]
    assert seen[:2] == ["A ba.", "A ba. D one."]
    assert seen[3] == "x" * 199 + ". End." and seen[4:] == ["whole"]  # of a long past the last 200 characters


async def test_an_answer_blocked_as_a_whole_sends_no_rest() -> None:
    pieces = [piece async for piece in stream("Fine. ", "and then ba")]
    gate, _, _ = gated(*pieces, Result("r", answer="Fine. and then bad"))
    parts = await watched(gate)
    assert texts(parts) == "Fine." and parts[-1].state == "refused"
    assert parts[-1].content.blocked.stage == "answer"


@pytest.mark.parametrize("pieces", [["crash. "], []])
async def test_a_screen_that_crashes_on_the_answer_fails_the_job(pieces: list[str]) -> None:
    gate, bus, _ = gated(*[piece async for piece in stream(*pieces)], Result("r", answer="crash"))
    parts = await watched(gate)
    assert parts == [Ending("failed", "safety_unavailable")] == bus.endings


async def test_candidates_are_screened_best_first_until_enough_pass() -> None:
    result = Result("r", candidates=(b"bad one", b"good one", b"bad two", b"good two", b"good three"))
    gate, _, screens = gated(result)
    [ending] = await watched(gate)
    assert ending.state == "done" and ending.content.chosen == (1, 3)
    assert [content for _, content in screens.seen] == ["bad one", "good one", "bad two", "good two"]


async def test_pictures_are_judged_for_the_language_of_the_request() -> None:
    gate, _, screens = gated(Result("r", candidates=(b"good",)))
    await gate.submit(Job("job", [("prompt", "一只猫")], b"photo"), b"1")
    await watched(gate)
    assert screens.languages == ["zh", "zh"]


class Observer:
    def __init__(self) -> None:
        self.told: list[tuple[str, str, str]] = []

    def judged(self, job_id: str, verdict: Verdict) -> None:
        self.told.append((job_id, verdict.stage, verdict.decision))

    def failed(self, job_id: str, stage: Stage, error: Exception) -> None:
        self.told.append((job_id, stage, type(error).__name__))


async def test_everything_judged_is_told_with_its_job() -> None:
    observer = Observer()
    gate = Gate(Bus(), WordScreens(), Contents(), observer)
    with pytest.raises(Refused):
        await gate.submit(Job("job-1", [("prompt", "fine"), ("negative_prompt", "bad")]), b"1")
    assert (await gate.judge("modr-1", "question", "fine")).decision == "pass"
    assert (await gate.judge("modr-1", "input_image", Picture(b"bad", "png"))).is_blocked
    with pytest.raises(ScreenFailed):
        await gate.judge("modr-2", "question", "crash")
    assert observer.told == [
        ("job-1", "prompt", "pass"),
        ("job-1", "negative_prompt", "block"),
        ("modr-1", "question", "pass"),
        ("modr-1", "input_image", "block"),
        ("modr-2", "question", "RuntimeError"),
    ]


async def test_a_blocked_text_spares_the_pictures_screening() -> None:
    gate, _, screens = gated()
    with pytest.raises(Refused):
        await gate.submit(Job("job", [("question", "bad")], b"photo"), b"1")
    assert [stage for stage, _ in screens.seen] == ["question"]


async def test_an_open_gate_judges_nothing_for_those_who_ask() -> None:
    gate, _, _ = gated(screens=OpenScreens())
    with pytest.raises(ScreenFailed, match="open"):
        await gate.judge("modr-1", "question", "fine")


async def test_without_any_safe_candidate_the_job_is_refused() -> None:
    gate, _, _ = gated(Result("r", candidates=(b"bad one", b"bad two")))
    [ending] = await watched(gate)
    assert ending.state == "refused" and ending.content.blocked.stage == "candidate" and ending.content.chosen == ()


async def test_a_blocked_preview_is_left_out() -> None:
    gate, _, _ = gated(Step(1, 3, b"good"), Step(2, 3, b"bad"), Step(3, 3), Result("r", candidates=(b"good",)))
    parts = await watched(gate)
    assert parts[:3] == [Step(1, 3, b"good"), Step(2, 3), Step(3, 3)]


async def test_a_result_that_nobody_waited_for_is_screened_all_the_same() -> None:
    for answer, state in (("bad", "refused"), ("fine", "done"), ("crash", "failed")):
        gate, bus, _ = gated()
        bus.stored.state, bus.stored.generated = "generated", answer.encode()
        assert await gate.complete_abandoned() == 1
        assert [ending.state for ending in bus.endings] == [state]
        status = await gate.status("job")
        assert status is not None and status.ending == bus.endings[0]


async def test_reading_a_generated_job_screens_it_first() -> None:
    gate, bus, _ = gated()
    bus.stored.state, bus.stored.generated = "generated", b"bad"
    status = await gate.status("job")
    assert status is not None and status.ending is not None and status.ending.state == "refused"


async def test_whoever_ended_the_job_first_is_believed() -> None:
    gate, bus, _ = gated(Result("r", answer="fine"))
    bus.stored.generated = b"fine"
    async with gate.watch("job", b"2") as watch:
        iterator = aiter(watch)
        bus.stored.ending = Ending("cancelled")

        async def lost(*_: object) -> bool:
            return False

        bus.finish = lost  # type: ignore[method-assign]
        assert (await anext(iterator)).state == "cancelled"
