"""What may leave of a job while it runs: text by whole sentences, steps, previews, and last its outcome.

All in this process who follow one job share one stream: each content is read, judged and finalized once, and whoever
comes later gets what came before. Nothing runs beside the followers: the first who needs more brings it for all.
"""

import asyncio
import re
from collections.abc import Callable
from typing import NamedTuple, Self

from models.jobs import Delta, Event, Generated, Kind, Progress
from safety.gate import Gate, ScreenFailed
from safety.verdict import Picture
from service.core.current_request import note_steps, note_tokens
from service.jobs.answers import ChatResponse, Outcome, outcome_of
from service.jobs.finalizer import Finalizer
from service.jobs.intents import ChatIntent, Intent, decode_intent
from service.queue.producer import JobProducer
from service.queue.record import Ending

_CONTEXT_CHARS = 200  # of what was sent, judged again with the next sentence: harm may span both
# Where a sentence may end: Chinese marks anywhere, Western ones before white space, and line breaks.
_SENTENCE_END = re.compile(r"[。！？；…]+[”’」』）]*|[.!?;]+[\"')]*(?=\s)|\n")


class Text(NamedTuple):
    """A streamed piece of an answer; `offset_chars` counts what came before it."""

    text: str
    offset_chars: int


class DenoisingStep(NamedTuple):
    """One finished denoising step; `preview_png` is empty where none was asked for or none may be shown.

    A painting's events are numbered from 1, the same in every process and at every delivery: two numbers for each of
    its steps, for the step and for its preview, whether there is one or not. The pictures' follow those of all steps.
    """

    step: int
    total_steps: int
    preview_png: bytes = b""

    @property
    def event_id(self) -> int:
        return 2 * self.step - 1

    @property
    def preview_event_id(self) -> int:
        return 2 * self.step

    @property
    def last_event_id(self) -> int:
        """Before those of the pictures."""
        return 2 * self.total_steps


Part = Text | DenoisingStep | Outcome


class ScreenedStream:
    """One job, for all of this process.

    Text is held back to the end of its sentence, so that no part of a blocked one leaves; an open gate holds nothing.
    What no screen judges now waits for the whole answer's screening.

    Args:
        intent: of a job that this process queues; None: where another one did, or in another request.
    """

    def __init__(
        self, job_id: str, kind: Kind, intent: Intent | None, producer: JobProducer, gate: Gate, finalizer: Finalizer
    ) -> None:
        self.job_id = job_id
        self.num_followers = 0
        self.num_watchers = 0  # of them, those that came by the job's id
        self._kind = kind
        self._intent = intent
        self._is_ours = intent is not None  # the lease on the result comes with it
        self._producer = producer
        self._gate = gate
        self._finalizer = finalizer
        self._subscription = producer.subscribe(job_id)
        self._subscription.open()
        self._turn = asyncio.Lock()
        self._parts: list[Part] = []
        self._event: Event | Ending | None = None  # in work; kept where its follower leaves meanwhile
        self._sent = ""
        self._held = ""

    def close(self) -> None:
        self._subscription.close()

    async def part(self, index: int) -> Part:
        """The part at `index`, waiting for it; there is none beyond the outcome."""
        while index >= len(self._parts):
            async with self._turn:
                if index >= len(self._parts):
                    await self._advance()
        return self._parts[index]

    async def _advance(self) -> None:
        if self._event is None:
            self._event = await anext(self._subscription)
        parts = await self._screened(self._event)
        self._event = None
        self._parts += parts

    async def _screened(self, event: Event | Ending) -> list[Part]:
        """What may leave of an event. Changes nothing before the last await: its follower may leave in any."""
        if isinstance(event, Ending):
            return [outcome_of(event, self._kind)]
        if isinstance(event, Delta):
            return await self._text(event)
        if isinstance(event, Progress):
            return [await self._step(event)]
        if not isinstance(event, Generated):  # a failure comes as an ending
            return []
        return await self._outcome(event)

    async def _text(self, delta: Delta) -> list[Part]:
        if self._gate.is_open:
            return [Text(delta.text, delta.offset_chars)]
        held = self._held + delta.text
        ends = [match.end() for match in _SENTENCE_END.finditer(held)]
        if not ends:
            self._held = held
            return []
        released, rest = held[: ends[-1]], held[ends[-1] :]
        try:
            verdict = await self._gate.judge(self.job_id, "answer", self._sent[-_CONTEXT_CHARS:] + released)
        except ScreenFailed as error:
            if not error.is_temporary:
                await self._finalizer.fail(self.job_id, "safety_unavailable", str(error))  # its ending comes next
                return []
            self._held = held
            return []
        if verdict.is_blocked:
            intent = await self._known_intent()
            if not isinstance(intent, ChatIntent):  # it has ended, and its ending comes next
                return []
            return [await self._finalizer.refuse_answer(self.job_id, intent, verdict, self._sent)]
        text = Text(released, len(self._sent))
        self._sent, self._held = self._sent + released, rest
        return [text]

    async def _step(self, progress: Progress) -> DenoisingStep:
        if progress.preview_png and not self._gate.is_open:
            picture = Picture(progress.preview_png, "png")
            try:
                is_blocked = (await self._gate.judge(self.job_id, "preview", picture)).is_blocked
            except ScreenFailed:
                is_blocked = True  # the picture itself is judged at the end
            if is_blocked:
                return DenoisingStep(progress.step, progress.total_steps)
        return DenoisingStep(progress.step, progress.total_steps, progress.preview_png)

    async def _outcome(self, generated: Generated) -> list[Part]:
        if self._is_ours and self._intent is not None:
            outcome = await self._finalizer.finalize(
                self.job_id,
                self._intent,
                generated,
                self._subscription.deadline,
                self._sent,
                is_shared=self.num_followers > 1,
            )
        else:
            outcome = await self._finalizer.adopt(self.job_id)
        if outcome is None:  # another process is at it: its ending comes through the subscription
            return []
        if self._held and outcome.ending.state == "done":
            return [Text(self._held, len(self._sent)), outcome]
        return [outcome]

    async def _known_intent(self) -> Intent | None:
        """None once the job has ended."""
        if self._intent is None:
            record = await self._producer.record(self.job_id)
            self._intent = decode_intent(record.intent) if record is not None and record.intent else None
        return self._intent


class JobStream:
    """One follower of a job: async context manager and iterator over its parts, the outcome last. Open when made."""

    def __init__(self, stream: ScreenedStream, leave: Callable[[ScreenedStream], None]) -> None:
        self._stream = stream
        self._leave = leave
        self._index = 0
        self._is_over = False
        self._is_closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Part:
        if self._is_over:
            raise StopAsyncIteration
        part = await self._stream.part(self._index)
        self._index += 1
        self._is_over = isinstance(part, Outcome)
        _note(part)
        return part

    async def outcome(self) -> Outcome:
        """The job's outcome, without what comes before it."""
        async for part in self:
            if isinstance(part, Outcome):
                return part
        raise RuntimeError("this stream was followed to its end already")

    def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._leave(self._stream)


def _note(part: Part) -> None:
    """For the log line of the request that follows this job."""
    if isinstance(part, DenoisingStep):
        note_steps(part.step)
    elif isinstance(part, Outcome) and isinstance(part.answer, ChatResponse):
        note_tokens(part.answer.usage.completion_tokens)
