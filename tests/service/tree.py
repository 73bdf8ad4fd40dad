"""Real worker processes around the scripted engine, and an API side to talk to them."""

import asyncio
import os
import signal
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import redis.asyncio

from models.jobs import ChatJob, Delta, Event, Generated, Job, Kind, PaintJob
from service.core.errors import BusUnavailable
from service.core.metrics import Metrics
from service.core.settings import Settings
from service.jobs.intents import SafetyIntent
from service.process.parent_death import dies_with_parent
from service.queue.consumer import JobConsumer
from service.queue.heartbeat import LiveWorker, live_workers
from service.queue.producer import JobProducer
from service.queue.record import Ending
from service.redis.connection import RedisConnection, open_redis
from service.redis.keys import Keys

ROOT = Path(__file__).parents[2]

# Short enough for tests, in the proportions of the defaults
QUICK: dict[str, object] = {
    "lease_s": 1.0,
    "lease_renew_s": 0.3,
    "stall_s": 1.0,
    "heartbeat_s": 0.2,
    "heartbeat_expiry_s": 1.0,
    "sweep_s": 0.2,
    "drain_s": 5.0,
    "retention_s": 60,
    "chat_max_jobs": 4,
    "chat_engine": "tests.service.engines:create_engine",
    "paint_engine": "tests.service.engines:create_engine",
    "safety": "off",  # tests of the gate turn it on
}


def quick_settings(redis_url: str, **overrides: object) -> Settings:
    return Settings(**{"redis_url": redis_url, **QUICK, **overrides})  # type: ignore[arg-type]


class WorkerProcess:
    """One `viscpm worker`, killed with the test at the latest."""

    def __init__(
        self, settings: Settings, log: Path, kind: Kind = "chat", predecessor: str = "", step_s: float = 0.0
    ) -> None:
        self.id = f"{kind}-{uuid.uuid4().hex[:8]}"
        self.output = log.with_name(f"{self.id}.stderr")
        changed = settings.model_dump(mode="json", exclude_defaults=True, exclude={"models", "cuda_memory_cpmbee_max"})
        environment = {f"VISCPM_{name.upper()}": str(value) for name, value in changed.items()}
        environment |= {"VISCPM_TEST_LOG": str(log), "VISCPM_TEST_STEP_S": str(step_s)}
        environment["PYTHONPATH"] = str(ROOT)
        command = [sys.executable, "-m", "service.process.cli", "worker", kind, "--worker-id", self.id]
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                dies_with_parent([*command, *(["--predecessor", predecessor] if predecessor else [])]),
                env=os.environ | environment,
                stderr=output,
            )

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    async def exit_code(self, within_s: float = 10.0) -> int:
        await eventually(lambda: self.process.poll() is not None, within_s)
        return self.process.returncode

    def said(self) -> str:
        return self.output.read_text()


StartWorker = Callable[..., WorkerProcess]


class ApiSide:
    """What an API process does for its requests, without HTTP."""

    def __init__(self, settings: Settings, process_id: str = "") -> None:
        self.servers = open_redis(settings)
        self.redis = redis.asyncio.Redis.from_url(settings.redis_url, protocol=3)
        self.metrics = Metrics("api")
        self.process_id = process_id or f"api-{uuid.uuid4().hex[:8]}"
        self.producer = JobProducer(self.servers, settings, self.process_id, self.metrics)
        self.connection = RedisConnection(self.servers)
        self._consumers: list[JobConsumer] = []

    def consumer(self, settings: Settings, consumer: str = "w1") -> JobConsumer:
        """A worker's side of the bus, in this process."""
        metrics = Metrics("worker", "chat")
        self._consumers.append(JobConsumer(self.servers, self.connection, "chat", consumer, settings, metrics))
        return self._consumers[-1]

    async def close(self) -> None:
        for consumer in self._consumers:
            await consumer.close()
        await self.producer.close()
        await self.connection.close()
        await self.redis.aclose()

    async def request(self, text: str, kind: Kind = "chat", job_id: str = "", **fields: object) -> "Outcome":
        """Reserve, submit, wait, finish: the whole of one request."""
        outcome = Outcome(job_id or uuid.uuid4().hex)
        await self.producer.reserve(kind, outcome.job_id)
        async with self.producer.subscribe(outcome.job_id) as watch:
            await self.producer.submit(make_job(kind, outcome.job_id, text, **fields), SafetyIntent())
            async for event in watch:
                outcome.see(event)
                if isinstance(event, Generated):
                    await self._finish(outcome.job_id)
        return outcome

    async def _finish(self, job_id: str) -> None:
        while True:
            try:
                await self.producer.finish(job_id, Ending("done", body=b"answer"))
                return
            except BusUnavailable:  # a test that stops Redis may do so just now
                await asyncio.sleep(0.1)

    async def start(self, text: str, kind: Kind = "chat", **fields: object) -> str:
        """Reserve and submit, and wait for nothing."""
        job_id = uuid.uuid4().hex
        await self.producer.reserve(kind, job_id)
        await self.producer.submit(make_job(kind, job_id, text, **fields), SafetyIntent())
        return job_id

    async def state(self, job_id: str) -> str:
        record = await self.producer.record(job_id)
        return "gone" if record is None else record.state

    async def workers(self) -> list[LiveWorker]:
        return await live_workers(self.connection, Keys("viscpm"))

    async def ready(self, *workers: WorkerProcess, within_s: float = 20.0) -> None:
        async def are_ready() -> bool:
            ready = {one.info.worker_id for one in await self.workers() if one.info.state == "ready"}
            return {worker.id for worker in workers} <= ready

        await eventually(are_ready, within_s)

    async def check_accounting(self, **expected: int) -> None:
        """accepted = done + refused + failed + cancelled, and no slot is left taken."""
        counts = await self.producer.accounting()
        for kind in ("chat", "paint"):
            ended = sum(counts[f"{state}:{kind}"] for state in ("done", "refused", "failed", "cancelled"))
            assert counts[f"accepted:{kind}"] == ended, counts
            assert await self.redis.zcard(f"{{viscpm}}:slots:{kind}") == 0
            assert await self.redis.xlen(f"{{viscpm}}:jobs:{kind}") == 0
        assert await self.redis.zcard("{viscpm}:pending_moderation") == 0
        for state, count in expected.items():
            assert counts[f"{state}:chat"] + counts[f"{state}:paint"] == count, (state, counts)


class Outcome:
    """What one request saw."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        self.events: list[Event] = []
        self.ending: Ending | None = None

    def see(self, event: Event | Ending) -> None:
        if isinstance(event, Ending):
            self.ending = event
        else:
            self.events.append(event)

    @property
    def streamed(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, Delta))

    @property
    def answer(self) -> str:
        [generated] = [event for event in self.events if isinstance(event, Generated)]
        return generated.result.answer  # type: ignore[union-attr]


@asynccontextmanager
async def api_side(settings: Settings, process_id: str = "") -> AsyncIterator[ApiSide]:
    api = ApiSide(settings, process_id)
    await api.producer.start()
    try:
        yield api
    finally:
        await api.close()


def make_job(kind: Kind, job_id: str, text: str, **fields: object) -> Job:
    if kind == "chat":
        return ChatJob(job_id=job_id, question=text, **fields)  # type: ignore[arg-type]
    return PaintJob(job_id=job_id, prompt=text, **fields)  # type: ignore[arg-type]


async def eventually(condition: Callable[[], object], within_s: float = 10.0) -> None:
    """Wait until `condition` (a function or coroutine function) is true."""
    deadline_s = time.monotonic() + within_s
    while True:
        result = condition()
        if isinstance(result, Awaitable):
            result = await result
        if result:
            return
        assert time.monotonic() < deadline_s, f"did not happen within {within_s:g} s"
        await asyncio.sleep(0.02)


async def scrape(url: str) -> str:
    def read() -> str:
        with urllib.request.urlopen(url, timeout=5) as response:
            return str(response.read().decode())

    return await asyncio.to_thread(read)


def log_lines(log: Path, what: str, job_id: str = "") -> list[list[str]]:
    """Lines `PID WHAT JOB` of the engines' log."""
    if not log.exists():
        return []
    lines = [line.split() for line in log.read_text().splitlines()]
    return [line for line in lines if line[1] == what and (not job_id or line[2] == job_id)]
