"""The gate's screens as the API process has them: rules for text here, heavy screens in the safety workers.

A picture is decoded here, made small and sent as a job with a deadline; findings are cached in Redis by content, and
the same content is asked for once at a time. Whatever goes wrong on the way raises: the gate lets nothing pass then.
Where no safety worker lives, what a request brings is told so at once; what a model has made waits, as one may come.
"""

import asyncio
import hashlib
import io
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin  # noqa: F401 - the plugin registers with Pillow on import

from models.jobs import Generated, SafetyJob, SafetyResult, ScreenFinding
from safety.image.screen import Pixels
from safety.policy import Policy, load_policy
from safety.text.rules import load_text_rules
from safety.text.screen import TextScreen
from safety.verdict import Finding, Picture, ScreenOffline, Stage, Verdict
from service.core.current_request import current_request_id
from service.core.errors import BusUnavailable, Deadline, JobLost, QueueFull, Unavailable
from service.core.metrics import Metrics
from service.core.settings import Settings
from service.core.tasks import stop_tasks
from service.jobs.intents import SafetyIntent
from service.jobs.worker_registry import WorkerRegistry
from service.queue.producer import JobProducer
from service.queue.record import Ending
from service.queue.verdict_cache import VerdictCache

MAX_SIDE_PX = 512  # of a picture sent to the screens, which look at 224 to 256
_MADE: tuple[Stage, ...] = ("answer", "candidate")  # stages of what would have to be made again
TENANT = "#safety"  # of screening jobs: none that a client can be

_LONG_TEXT_CHARS = 1000  # beyond this the rules run in a thread, so that requests go on meanwhile
_INTENT = SafetyIntent()


class NoFindings(Exception):
    """The safety workers cannot judge this content."""


class WorkersOffline(NoFindings, ScreenOffline):
    """The safety workers, or the way to them, cannot be asked just now."""


class Rules:
    """What text is judged by in this process, and the policy; read once.

    Raises:
        PolicyError, RuleError: the policy or a rule file says something that cannot be meant.
    """

    def __init__(self, settings: Settings) -> None:
        self.policy: Policy = load_policy(Path(settings.safety_policy) if settings.safety_policy else None)
        self.text = TextScreen(load_text_rules())


class WorkerScreens:
    """The gate's screens (safety.verdict.Screens). Every call raises where there is no verdict."""

    are_open = False

    def __init__(
        self,
        rules: Rules,
        producer: JobProducer,
        cache: VerdictCache,
        registry: WorkerRegistry,
        settings: Settings,
        metrics: Metrics,
    ) -> None:
        self._rules = rules
        self._producer = producer
        self._cache = cache
        self._registry = registry
        self._has_checker = bool(settings.safety_prompt_checker)
        self._metrics = metrics
        self._threads = ThreadPoolExecutor(settings.decode_threads, thread_name_prefix="screens")
        self._asked: dict[str, asyncio.Task[list[ScreenFinding]]] = {}  # by digest: one for all who wait

    async def text(self, stage: Stage, text: str) -> Verdict:
        with self._timed(stage):
            if len(text) > _LONG_TEXT_CHARS:
                [judged] = await self._in_thread(self._rules.text.judge, [text])
            else:
                [judged] = self._rules.text.judge([text])
            findings = list(judged.findings)
            sha256 = hashlib.sha256(text.encode()).hexdigest()
            if self._has_checker and judged.language == "zh":
                findings += await self._found(stage, f"{sha256}:text", text)
            verdict = self._rules.policy.decide(stage, findings, judged.language)
        return replace(verdict, sha256=sha256)

    async def image(self, stage: Stage, picture: Picture, language: str = "") -> Verdict:
        with self._timed(stage):
            sha256 = hashlib.sha256(picture.data).hexdigest()
            key = f"{sha256}:{picture.encoding}:{picture.width_px}x{picture.height_px}:{MAX_SIDE_PX}"
            findings = await self._found(stage, key, picture)
            verdict = self._rules.policy.decide(stage, findings, language)
        return replace(verdict, sha256=sha256)

    async def close(self) -> None:
        await stop_tasks(list(self._asked.values()))
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _found(self, stage: Stage, key: str, content: Picture | str) -> list[Finding]:
        """Findings that are known, on their way, or asked for now. Raises NoFindings, WorkersOffline."""
        self._metrics.count("verdict_cache_queries_total")
        if stage not in _MADE and self._registry.screens_are_gone:
            found = await self._known_or_asked(key, None)
        else:
            found = await self._shared(key, content)
        return [Finding(finding.screen, finding.scores) for finding in found]

    async def _shared(self, key: str, content: Picture | str) -> list[ScreenFinding]:
        """Asked for once by all who want to know at the same time."""
        task = self._asked.get(key)
        if task is None:
            task = self._asked[key] = asyncio.create_task(self._known_or_asked(key, content))
            task.add_done_callback(lambda done: self._answered(key, done))
        else:
            self._metrics.count("verdict_cache_hits_total")
        return await asyncio.shield(task)  # one who leaves does not take the others' verdict along

    def _answered(self, key: str, task: "asyncio.Task[list[ScreenFinding]]") -> None:
        self._asked.pop(key, None)
        if not task.cancelled():
            task.exception()  # seen, also where all who waited have left

    async def _known_or_asked(self, key: str, content: Picture | str | None) -> list[ScreenFinding]:
        """What is kept, else what the workers say; None: there are none to ask. Raises NoFindings, WorkersOffline."""
        try:
            return await self._cached_or_asked(key, content)
        except (Unavailable, QueueFull, JobLost) as error:
            raise WorkersOffline(error.message) from error

    async def _cached_or_asked(self, key: str, content: Picture | str | None) -> list[ScreenFinding]:
        workers = self._registry.last_model("safety")
        if (
            workers is not None
            and (known := await self._cache.get(self._version(workers.fingerprint), key)) is not None
        ):
            self._metrics.count("verdict_cache_hits_total")
            return known
        if content is None:
            raise WorkersOffline("no safety worker is alive")
        result = await self._ask(await self._job(key, content))
        if result.fingerprint:  # whose, tells the one that judged: not all workers need have the same screens
            with suppress(BusUnavailable):  # then the next one is judged again
                await self._cache.put(self._version(result.fingerprint), key, result.findings)
        return result.findings

    def _version(self, fingerprint: str) -> str:
        return f"{self._rules.policy.version}-{fingerprint}"

    async def _job(self, key: str, content: Picture | str) -> SafetyJob:
        job_id, request_id = f"safety-{secrets.token_urlsafe(18)}", current_request_id()
        if isinstance(content, str):
            return SafetyJob(job_id=job_id, request_id=request_id, content_key=key, text=content)
        pixels, width_px, height_px = await self._in_thread(_small, content)
        return SafetyJob(
            job_id=job_id,
            request_id=request_id,
            content_key=key,
            pixels=pixels,
            width_px=width_px,
            height_px=height_px,
        )

    async def _ask(self, job: SafetyJob) -> SafetyResult:
        """Have the safety workers do a job. Raises NoFindings, WorkersOffline, and what the queue raises."""
        await self._producer.reserve("safety", job.job_id, TENANT)
        async with self._producer.subscribe(job.job_id) as watch:
            await self._producer.submit(job, _INTENT)
            async for event in watch:
                if isinstance(event, Generated) and isinstance(event.result, SafetyResult):
                    with suppress(BusUnavailable):  # then a sweep ends it
                        await self._producer.finish(job.job_id, Ending("done"))
                    return event.result
                if isinstance(event, Ending):
                    missing = WorkersOffline if event.code == Deadline.code else NoFindings
                    raise missing(f"{event.code}: {event.message}")
        raise NoFindings("the job ended without a word")

    async def _in_thread(self, function: Callable[..., Any], *arguments: object) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    @contextmanager
    def _timed(self, stage: Stage) -> Iterator[None]:
        began_s = asyncio.get_running_loop().time()
        yield
        self._metrics.observe("safety_latency_seconds", asyncio.get_running_loop().time() - began_s, stage=stage)


def _small(picture: Picture) -> Pixels:
    """The decoded picture, at most MAX_SIDE_PX a side."""
    if picture.encoding == "rgb":
        pixels = Pixels(picture.data, picture.width_px, picture.height_px)
        if max(picture.width_px, picture.height_px) <= MAX_SIDE_PX:
            return pixels
        image = pixels.image()
    else:
        image = Image.open(io.BytesIO(picture.data), formats=("PNG",)).convert("RGB")
    image.thumbnail((MAX_SIDE_PX, MAX_SIDE_PX), Image.Resampling.BICUBIC)
    return Pixels(image.tobytes(), image.width, image.height)
