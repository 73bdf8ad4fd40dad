"""The gate's screens as the API process has them: rules for text here, heavy screens in the safety workers or behind
servers (guards/servers.py).

A text that the rules let pass goes on to the screens of its language. A picture is decoded here and made small. Either
is sent as a job with a deadline; findings are cached in Redis by content, and the same content is asked for once at a
time. Whatever goes wrong on the way raises, a screen that is configured and did not speak included: the gate lets
nothing pass then.
Where no safety worker lives, what a request brings is told so at once; what a model has made waits, as one may come.
"""

import asyncio
import hashlib
import io
import secrets
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image, PngImagePlugin  # noqa: F401 - the plugin registers with Pillow on import

from models.jobs import Generated, SafetyJob, SafetyResult, ScreenFinding
from safety.image.screen import Pixels
from safety.policy import IMAGE_CLASSIFIER, Policy, load_policy
from safety.text.guards.adapter import Role
from safety.text.guards.named import guard_adapter
from safety.text.language import Language
from safety.text.rules import load_text_rules
from safety.text.screen import CHECKER, TextScreen
from safety.verdict import Finding, Picture, ScreenOffline, Stage, Verdict
from service.core.current_request import current_request_id
from service.core.errors import BusUnavailable, Deadline, JobLost, QueueFull, Unavailable
from service.core.metrics import Metrics
from service.core.settings import Settings
from service.jobs.guards.servers import GuardServers, configured_servers
from service.jobs.guards.shared_findings import SharedFindings
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
        if settings.safety_image_classifier:
            self.policy.require_labels(IMAGE_CLASSIFIER)
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
        self._configured = _ConfiguredScreens(settings)
        self._servers = GuardServers(configured_servers(settings), rules.policy.version, cache, metrics)
        self._metrics = metrics
        self._threads = ThreadPoolExecutor(settings.decode_threads, thread_name_prefix="screens")
        self._shared = SharedFindings(metrics)

    async def text(self, stage: Stage, text: str) -> Verdict:
        with self._timed(stage):
            if len(text) > _LONG_TEXT_CHARS:
                [judged] = await self._in_thread(self._rules.text.judge, [text])
            else:
                [judged] = self._rules.text.judge([text])
            sha256 = hashlib.sha256(text.encode()).hexdigest()
            verdict = self._rules.policy.decide(stage, judged.findings, judged.language)
            if not verdict.is_blocked:  # what the rules block takes no guard's time
                role: Role = "assistant" if stage == "answer" else "user"
                asked = await self._asked(stage, text, f"{sha256}:{role}", role, judged.language)
                verdict = self._rules.policy.decide(stage, [*judged.findings, *asked], judged.language)
        return replace(verdict, sha256=sha256)

    async def image(self, stage: Stage, picture: Picture, language: str = "") -> Verdict:
        with self._timed(stage):
            sha256 = hashlib.sha256(picture.data).hexdigest()
            key = f"{sha256}:{picture.encoding}:{picture.width_px}x{picture.height_px}:{MAX_SIDE_PX}"
            findings = await self._found(stage, key, picture, self._configured.of_pictures)
            verdict = self._rules.policy.decide(stage, findings, language)
        return replace(verdict, sha256=sha256)

    async def close(self) -> None:
        await self._shared.close()
        await self._servers.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _asked(self, stage: Stage, text: str, key: str, role: Role, language: Language) -> list[Finding]:
        """What the screens beside the rules found, all asked at the same time."""
        names = self._configured.of_texts(language)
        asked = []
        if self._servers.judge(language):
            asked.append(self._servers.findings(text, key, role, language))
        if names:
            asked.append(self._found_in_text(stage, text, key, role, names))
        if not asked:
            return []
        return [finding for findings in await asyncio.gather(*asked) for finding in findings]

    async def _found_in_text(
        self, stage: Stage, text: str, key: str, role: Role, names: Sequence[str]
    ) -> list[Finding]:
        began_s = asyncio.get_running_loop().time()
        findings = await self._found(stage, key, _Text(text, role), names)
        age_s = asyncio.get_running_loop().time() - began_s
        self._metrics.observe("safety_guard_latency_seconds", age_s, screen="+".join(names))
        return findings

    async def _found(self, stage: Stage, key: str, content: "Picture | _Text", names: Sequence[str]) -> list[Finding]:
        """Findings that are known, on their way, or asked for now. Raises NoFindings, WorkersOffline.

        Args:
            names: of screens that must have spoken.
        """
        self._metrics.count("verdict_cache_queries_total")
        if stage not in _MADE and self._registry.screens_are_gone:
            found = await self._known_or_asked(key, None)
        else:
            found = await self._shared.get(key, lambda: self._known_or_asked(key, content))
        if missing := set(names) - {finding.screen for finding in found}:
            raise NoFindings(
                f"{', '.join(sorted(missing))} is configured here and did not judge: is it in the workers?"
            )
        return [Finding(finding.screen, finding.scores, finding.version) for finding in found]

    async def _known_or_asked(self, key: str, content: "Picture | _Text | None") -> list[ScreenFinding]:
        """What is kept, else what the workers say; None: there are none to ask. Raises NoFindings, WorkersOffline."""
        try:
            return await self._cached_or_asked(key, content)
        except (Unavailable, QueueFull, JobLost) as error:
            raise WorkersOffline(error.message) from error

    async def _cached_or_asked(self, key: str, content: "Picture | _Text | None") -> list[ScreenFinding]:
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

    async def _job(self, key: str, content: "Picture | _Text") -> SafetyJob:
        job_id, request_id = f"safety-{secrets.token_urlsafe(18)}", current_request_id()
        if isinstance(content, _Text):
            is_answer = content.role == "assistant"
            return SafetyJob(
                job_id=job_id, request_id=request_id, content_key=key, text=content.text, is_answer=is_answer
            )
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


class _Text(NamedTuple):
    text: str
    role: Role


class _ConfiguredScreens:
    """Names of the safety workers' screens that the settings name, which must speak where they judge at all."""

    def __init__(self, settings: Settings) -> None:
        pictures = ((settings.safety_image_checker, "compvis"), (settings.safety_image_classifier, IMAGE_CLASSIFIER))
        self.of_pictures = [name for folder, name in pictures if folder]
        self._has_checker = bool(settings.safety_prompt_checker)
        self._guard = guard_adapter(settings.safety_guard_adapter) if settings.safety_guard else None

    def of_texts(self, language: Language) -> list[str]:
        names = [CHECKER] if self._has_checker and language == "zh" else []
        if self._guard is not None and language in self._guard.languages:
            names.append(self._guard.name)
        return names


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
