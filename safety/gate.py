"""The gate: the only object through which a route reaches a model.

Covered: every text and picture of a job before it is queued; every streamed sentence, preview, answer and candidate
before it leaves; results that nobody waits for. A screen that fails lets nothing pass.
Not covered: what a screen fails to see, and what reaches Redis by other ways than this gate.
"""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Awaitable
from typing import Any, Self

from safety.contents import Bus, Contents, Ending, Inputs, Job, Observer, Passed, Result, Status, Step, Text, Watch
from safety.verdict import Picture, Screens, Stage, Verdict

logger = logging.getLogger(__name__)

_CONTEXT_CHARS = 200  # of what was sent, judged again with the next sentence: harm may span both
# Where a sentence may end: Chinese marks anywhere, Western ones before white space, and line breaks.
_SENTENCE_END = re.compile(r"[。！？；…]+[”’」』）]*|[.!?;]+[\"')]*(?=\s)|\n")


class Refused(Exception):
    """An input is blocked: its job has ended as refused and no model has seen it."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.message or f"the {verdict.stage} is not allowed here")
        self.verdict = verdict


class ScreenFailed(Exception):
    """A screen gave no verdict."""


class Gate:
    """Holds the bus, alone, and lets through what the screens let pass.

    Args:
        observer: told every verdict, and where there was none.
    """

    def __init__(self, bus: Bus, screens: Screens, contents: Contents, observer: Observer | None = None) -> None:
        self._bus = bus
        self._screens = screens
        self._contents = contents
        self._screening = Screening(screens, observer)

    @property
    def is_open(self) -> bool:
        """True where nothing is screened."""
        return self._screens.are_open

    async def reserve(self, kind: Any, job_id: str, tenant: str) -> None:
        """Take a slot; from here on the job ends exactly once."""
        await self._bus.reserve(kind, job_id, tenant)

    async def judge(self, content_id: str, stage: Stage, content: str | Picture) -> Verdict:
        """A verdict and nothing else: for who wants to know. Raises ScreenFailed, also where screens are open."""
        if self._screens.are_open:
            raise ScreenFailed("nothing is screened here: the safety gate is open")
        if isinstance(content, str):
            return await self._screening.text(content_id, stage, content)
        return await self._screening.image(content_id, stage, content)

    async def submit(self, job: Job, intent: bytes, busy_key: str = "") -> bytes:
        """Screen a job's inputs, then queue it. Returns the intent as it is kept: with the verdicts on the inputs.

        Raises:
            Refused: an input is blocked. The job has ended as refused.
            ScreenFailed: a screen gave no verdict. The job has ended as failed.
        """
        if not self._screens.are_open:
            verdicts = await self._screen_inputs(job.job_id, self._contents.inputs(job))
            intent = self._contents.screened(intent, verdicts)
        await self._bus.submit(job, intent, busy_key)
        return intent

    def watch(self, job_id: str, intent: bytes = b"") -> "GatedWatch":
        """What may leave of a job: Text, Step, and last its Ending. Enter it before `submit`.

        Args:
            intent: as `submit` returned it; empty where only the bus knows it.
        """
        return GatedWatch(self._bus.subscribe(job_id), self._bus, self._screening, self._contents, job_id, intent)

    async def complete(self, job_id: str) -> Ending | None:
        """Screen a result that nobody screened yet and write the job's ending. None: there is nothing to screen."""
        record = await self._bus.record(job_id)
        if record is None or record.ending is not None or not record.generated:
            return None if record is None else record.ending
        result = self._contents.part(self._contents.decode(record.generated))
        assert isinstance(result, Result)
        return await _complete(
            self._bus, self._screening, self._contents, job_id=job_id, intent=record.intent, result=result
        )

    async def complete_abandoned(self) -> int:
        """Complete the results whose own process is gone; how many there were."""
        job_ids = await self._bus.ungated()
        for job_id in job_ids:
            await self.complete(job_id)
        return len(job_ids)

    async def status(self, job_id: str) -> Status | None:
        """A job's state and ending; an unscreened result is screened first."""
        record = await self._bus.record(job_id)
        if record is not None and record.state == "generated":
            await self.complete(job_id)
            record = await self._bus.record(job_id)
        if record is None:
            return None
        return Status(record.kind, record.state, record.tenant, record.created_ms, record.intent, record.ending)

    async def cancel(self, job_id: str, reason: str) -> bool:
        """End a job as cancelled. False: it had ended."""
        return await self._bus.cancel(job_id, reason)

    async def fail(self, job_id: str, code: str, message: str) -> bool:
        """End a job that could not be submitted. False: it had ended."""
        return await self._bus.finish(job_id, self._contents.failure(code, message), None)

    async def _screen_inputs(self, job_id: str, inputs: Inputs) -> list[Verdict]:
        """Texts first: they take no time, and a blocked one spares the picture's screening."""
        verdicts: list[Verdict] = []
        try:
            for stage, text in inputs.texts:
                verdicts.append(await self._screening.text(job_id, stage, text))
            if inputs.picture is not None and not any(verdict.is_blocked for verdict in verdicts):
                language = verdicts[0].language if verdicts else ""
                verdicts.append(await self._screening.image(job_id, "input_image", inputs.picture, language))
        except ScreenFailed as error:
            await self.fail(job_id, "safety_unavailable", str(error))
            raise
        for verdict in verdicts:
            if verdict.is_blocked:
                await self._bus.finish(job_id, self._contents.refusal(verdict), None)
                raise Refused(verdict)
        return verdicts


class Screening:
    """Screens that fail in one way, and what may leave of a whole result."""

    def __init__(self, screens: Screens, observer: Observer | None) -> None:
        self._screens = screens
        self._observer = observer
        self.is_open = screens.are_open

    async def text(self, job_id: str, stage: Stage, text: str) -> Verdict:
        """Raises ScreenFailed."""
        return await self._told(job_id, stage, self._screens.text(stage, text))

    async def image(self, job_id: str, stage: Stage, picture: Picture, language: str = "") -> Verdict:
        """Raises ScreenFailed."""
        return await self._told(job_id, stage, self._screens.image(stage, picture, language))

    async def _told(self, job_id: str, stage: Stage, judging: Awaitable[Verdict]) -> Verdict:
        try:
            verdict = await judging
        except Exception as error:
            if self._observer is not None:
                self._observer.failed(job_id, stage, error)
            raise ScreenFailed(f"the screen of the {stage} gave no verdict ({type(error).__name__})") from error
        if self._observer is not None:
            self._observer.judged(job_id, verdict)
        return verdict

    async def result(self, job_id: str, result: Result, wanted: int, sent: str, language: str) -> Passed:
        """Candidates are screened best first until as many pass as are wanted. Raises ScreenFailed."""
        if self.is_open:
            return Passed(result, tuple(range(min(wanted, len(result.candidates)))), sent=sent)
        if result.answer is not None:
            verdict = await self.text(job_id, "answer", result.answer)
            return Passed(result, blocked=verdict if verdict.is_blocked else None, sent=sent, verdicts=(verdict,))
        chosen: list[int] = []
        verdicts: list[Verdict] = []
        while len(chosen) < wanted and len(verdicts) < len(result.candidates):
            first = len(verdicts)
            pictures = [Picture(png, "png") for png in result.candidates[first : first + wanted - len(chosen)]]
            verdicts += await asyncio.gather(*(self.image(job_id, "candidate", one, language) for one in pictures))
            chosen += [place for place in range(first, len(verdicts)) if not verdicts[place].is_blocked]
        blocked = None if chosen or not verdicts else verdicts[-1]
        return Passed(result, tuple(chosen), blocked, verdicts=tuple(verdicts))


class GatedWatch:
    """Async context manager and iterator: Text, Step, and last the job's Ending, all screened.

    Text is held back to the end of its sentence, so that no part of a blocked one leaves; open screens hold nothing.
    """

    def __init__(
        self, watch: Watch, bus: Bus, screening: Screening, contents: Contents, job_id: str, intent: bytes
    ) -> None:
        self._watch = watch
        self._bus = bus
        self._screening = screening
        self._contents = contents
        self._job_id = job_id
        self.intent = intent
        self._sent = ""
        self._held = ""

    async def __aenter__(self) -> Self:
        await self._watch.__aenter__()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._watch.__aexit__(*exception)

    async def ending(self) -> Ending:
        """The job's ending, without what comes before it."""
        last = None
        async for part in self:
            last = part
        return last

    async def __aiter__(self) -> AsyncIterator[Text | Step | Ending]:
        async for event in self._watch:
            part = self._contents.part(event)
            if part is None:
                yield event
                return
            try:
                if isinstance(part, Result):
                    ending = await self._complete(part)
                    if ending is None:  # another process was first: the watch brings its ending
                        continue
                    if self._held:
                        yield Text(self._held, len(self._sent))
                    yield ending
                    return
                screened = await self._screen(part)
            except ScreenFailed as error:
                ending = self._contents.failure("safety_unavailable", str(error))
                await self._bus.finish(self._job_id, ending, None)  # the watch brings it
                continue
            if isinstance(screened, Verdict):
                if await self._read_intent():  # else it has ended, and the watch brings its ending
                    passed = Passed(None, blocked=screened, sent=self._sent, verdicts=(screened,))
                    yield await _end(self._bus, self._contents, self._job_id, self.intent, passed)
                    return
                continue
            if screened is not None:
                yield screened

    async def _screen(self, part: Text | Step) -> Text | Step | Verdict | None:
        """What may leave now; None: nothing yet; or the verdict against it."""
        if self._screening.is_open:
            return part
        if isinstance(part, Step):
            if not part.preview_png:
                return part
            verdict = await self._screening.image(self._job_id, "preview", Picture(part.preview_png, "png"))
            return Step(part.step, part.total_steps) if verdict.is_blocked else part
        self._held += part.text
        ends = [match.end() for match in _SENTENCE_END.finditer(self._held)]
        if not ends:
            return None
        released, rest = self._held[: ends[-1]], self._held[ends[-1] :]
        verdict = await self._screening.text(self._job_id, "answer", self._sent[-_CONTEXT_CHARS:] + released)
        if verdict.is_blocked:
            return verdict
        text = Text(released, len(self._sent))
        self._sent += released
        self._held = rest
        return text

    async def _read_intent(self) -> bytes:
        """The job's intent; empty once it has ended."""
        if not self.intent:
            record = await self._bus.record(self._job_id)
            self.intent = b"" if record is None else record.intent
        return self.intent

    async def _complete(self, result: Result) -> Ending | None:
        if not await self._read_intent():
            return None
        ending = await _complete(
            self._bus,
            self._screening,
            self._contents,
            job_id=self._job_id,
            intent=self.intent,
            result=result,
            sent=self._sent,
        )
        if ending.state != "done":
            self._held = ""
        return ending


async def _complete(
    bus: Bus, screening: Screening, contents: Contents, *, job_id: str, intent: bytes, result: Result, sent: str = ""
) -> Ending:
    """Screen a result and write its ending; the one that stands, where another process was first."""
    try:
        passed = await screening.result(job_id, result, contents.wanted(intent), sent, contents.language(intent))
    except ScreenFailed as error:
        ending = contents.failure("safety_unavailable", str(error))
        return ending if await bus.finish(job_id, ending, None) else await _standing(bus, job_id, ending)
    return await _end(bus, contents, job_id, intent, passed)


async def _end(bus: Bus, contents: Contents, job_id: str, intent: bytes, passed: Passed) -> Ending:
    try:
        ending, turn = await contents.ending(job_id, intent, passed)
    except Exception:
        logger.exception("job %s: no answer could be put together", job_id)
        ending, turn = contents.failure("job_failed", f"job {job_id}: no answer could be put together"), None
    if await bus.finish(job_id, ending, turn):
        return ending
    return await _standing(bus, job_id, ending)


async def _standing(bus: Bus, job_id: str, ours: Ending) -> Ending:
    record = await bus.record(job_id)
    return ours if record is None or record.ending is None else record.ending
