"""The jobs' room over a real server: screens that judge by a word, and a worker's side that says what it is told."""

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from PIL import Image, PngImagePlugin

from models.jobs import Candidate, ChatJob, ChatResult, Delta, Event, Failed, Generated, PaintJob, PaintResult
from safety.gate import Gate
from safety.verdict import Decision, Picture, ScreenOffline, Screens, Stage, Verdict
from service.core.metrics import Metrics
from service.core.settings import Settings
from service.image_output.ai_labels import AILabels
from service.jobs.answers import Outcome
from service.jobs.conversations import Conversations
from service.jobs.finalizer import Finalizer
from service.jobs.gated_queue import GatedQueue
from service.jobs.intents import ChatIntent, PaintIntent
from service.jobs.screened_stream import JobStream, Part
from service.queue.consumer import Delivery, JobConsumer
from service.queue.conversation_record import ConversationMeta
from service.queue.producer import JobProducer
from service.redis.connection import RedisConnection, RedisServers


@dataclass
class WordScreens:
    """Blocks what holds `bad`, fails on what holds `crash`, is offline for `away`. Remembers what it saw."""

    are_open: bool = False
    seen: list[tuple[str, str]] = field(default_factory=list)
    languages: list[str] = field(default_factory=list)
    is_away: bool = False
    delay_s: float = 0.0

    async def text(self, stage: Stage, text: str) -> Verdict:
        return await self._judge(stage, text)

    async def image(self, stage: Stage, picture: Picture, language: str = "") -> Verdict:
        self.languages.append(language)
        return await self._judge(stage, word_in(picture.data) if picture.encoding == "png" else picture.data.decode())

    async def _judge(self, stage: Stage, content: str) -> Verdict:
        self.seen.append((stage, content))
        await asyncio.sleep(self.delay_s)
        if self.is_away and stage not in ("question", "prompt"):
            raise ScreenOffline("away")
        if "crash" in content:
            raise RuntimeError("screen crashed")
        decision: Decision = "block" if "bad" in content else "pass"
        language = "zh" if "猫" in content else ""
        return Verdict(stage, decision, {"violence": 0.9}, "words", language=language)


class CountingLabels(AILabels):
    """Counts the pictures that it encodes."""

    encoded = 0

    async def picture(self, *arguments: object, **named: object) -> bytes:
        self.encoded += 1
        return await super().picture(*arguments, **named)  # type: ignore[arg-type]


class ApiProcess:
    """What one API process has of the jobs' room."""

    def __init__(self, servers: RedisServers, settings: Settings, screens: Screens, process_id: str) -> None:
        self.screens = screens
        self.producer = JobProducer(servers, settings, process_id, Metrics("api"))
        self.gate = Gate(screens)
        self.conversations = Conversations(servers, settings)
        self.labels = CountingLabels(settings, "VisCPM service")
        self.finalizer = Finalizer(self.producer, self.gate, self.conversations, self.labels)
        self.queue = GatedQueue(self.producer, self.gate, self.finalizer)

    async def submit(self, job: ChatJob | PaintJob, intent: ChatIntent | PaintIntent | None = None) -> JobStream:
        kind = "chat" if isinstance(job, ChatJob) else "paint"
        await self.queue.reserve(kind, job.job_id, "t")  # type: ignore[arg-type]
        return await self.queue.submit(job, intent or (chat_intent() if kind == "chat" else paint_intent()))

    async def close(self) -> None:
        await self.finalizer.close()
        await self.producer.close()
        await self.conversations.close()
        self.labels.close()


class WorkerSide:
    """Takes jobs of one kind and says what it is told."""

    def __init__(self, servers: RedisServers, settings: Settings, kind: str) -> None:
        self._connection = RedisConnection(servers)
        self.consumer = JobConsumer(
            servers,
            self._connection,
            kind,
            f"worker-{kind}",
            settings,
            Metrics("worker", kind),  # type: ignore[arg-type]
        )
        self.taken: list[Delivery] = []

    async def take(self) -> Delivery:
        while True:
            taken = await self.consumer.take(1, lambda: 0, 1.0)
            if taken:
                self.taken += taken
                return taken[0]

    async def say(self, *events: Event) -> None:
        """Of the job that was taken last."""
        delivery = self.taken[-1]
        for event in events:
            delivery.add(event)
            assert not (await self.consumer.publish([delivery])).lost

    async def close(self) -> None:
        await self.consumer.close()
        await self._connection.close()


@asynccontextmanager
async def api_process(
    servers: RedisServers, settings: Settings, screens: Screens | None = None, process_id: str = "api-1"
) -> AsyncIterator[ApiProcess]:
    process = ApiProcess(servers, settings, screens or WordScreens(), process_id)
    await process.producer.start()
    try:
        yield process
    finally:
        await process.close()


def chat_intent() -> ChatIntent:
    begun = ConversationMeta(created=1, model="m", fingerprint="f")
    return ChatIntent("t", 1, "m", "conv-1", "q", 7, begun)


def paint_intent() -> PaintIntent:
    return PaintIntent("t", 1, "m", 2, "png", 100, 7)


def deltas(*pieces: str) -> list[Delta]:
    offsets = [sum(map(len, pieces[:index])) for index in range(len(pieces))]
    return [
        Delta(token_ids=[index], text=piece, offset_chars=offset)
        for index, (piece, offset) in enumerate(zip(pieces, offsets, strict=True))
    ]


def answered(answer: str) -> Generated:
    result = ChatResult(
        answer=answer,
        answer_escaped=answer,
        finish_reason="stop",
        prompt_tokens=1,
        image_tokens=0,
        completion_tokens=1,
        token_ids=[1],
    )
    return Generated(result=result)


def painted(*words: str) -> Generated:
    candidates = [Candidate(png=png(word), seed=index) for index, word in enumerate(words)]
    return Generated(result=PaintResult(candidates=candidates, prompt_tokens=1, height_px=8, width_px=8))


def failed() -> Failed:
    return Failed(code="job_failed", message="as told")


def png(word: str) -> bytes:
    """A picture with a word in it, for WordScreens to read."""
    told = PngImagePlugin.PngInfo()
    told.add_text("word", word)
    target = io.BytesIO()
    Image.new("RGB", (8, 8)).save(target, "PNG", pnginfo=told)
    return target.getvalue()


def word_in(data: bytes) -> str:
    with Image.open(io.BytesIO(data)) as opened:
        return str(opened.text["word"])  # type: ignore[attr-defined]


async def parts_of(stream: JobStream) -> list[Part]:
    async with stream:
        return [part async for part in stream]


def state_of(part: Part) -> str:
    assert isinstance(part, Outcome)
    return part.ending.state
