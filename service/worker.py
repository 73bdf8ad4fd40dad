"""The worker role: one process, one model, jobs from the bus.

The asyncio side talks to Redis and one thread owns the engine (`engine_thread`). Jobs are pulled only while the engine
has room; leases are renewed only while its steps make progress; what it says goes out under a fencing token.
"""

import asyncio
import importlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import msgspec
import redis.asyncio
import uvloop
from redis.exceptions import RedisError

from models.jobs import (
    ChatJob,
    Engine,
    EngineConfig,
    Failed,
    Generated,
    Job,
    Kind,
    ModelDescription,
    StateComputed,
)
from service.device import Device, empty_device_cache, resident_bytes
from service.engine_thread import EngineThread, TokenEvent
from service.errors import BusUnavailable
from service.heartbeat import WorkerInfo, WorkerState, remove_heartbeat, send_heartbeat
from service.leases import Delivery, Leases
from service.link import Link, open_redis
from service.metrics import Metrics
from service.settings import Settings
from service.vision_cache import VisionCache
from service.worker_http import WorkerServer

_log = logging.getLogger(__name__)

EXIT_FAILED = 1
EXIT_STALLED = 70

_BLOCK_S = 0.5  # of a pull; also how soon given-back jobs are noticed
_BACKOFF_S = (0.05, 0.1, 0.2, 0.5, 1.0)
_MAX_FAILED_STEPS = 3  # in a row: then the process is not to be trusted any more
_LEAVE_S = 1.0  # for the last words to Redis


def run_worker(kind: Kind, settings: Settings, worker_id: str, predecessor: str = "") -> int:
    """Serve jobs until told to stop. Returns the exit code: 0, or not 0 when the model failed to load or hung.

    Args:
        worker_id: unique over all workers that ever were.
        predecessor: a dead worker's id, whose jobs are taken over at once instead of after their lease.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        code, is_thread_done = runner.run(_serve(kind, settings, worker_id, predecessor))
    if not is_thread_done:  # it hangs in the model or in loading: nothing may wait for it
        logging.shutdown()
        sys.stdout.flush()
        os._exit(code)
    return code


async def _serve(kind: Kind, settings: Settings, worker_id: str, predecessor: str) -> tuple[int, bool]:
    client = open_redis(settings.redis_url)
    try:
        return await Worker(kind, settings, worker_id, predecessor, client).run()
    finally:
        with suppress(RedisError, OSError, TimeoutError):
            await client.aclose()


class Worker:
    """Joins one engine thread to the bus. Everything here runs on the event loop."""

    def __init__(
        self, kind: Kind, settings: Settings, worker_id: str, predecessor: str, client: "redis.asyncio.Redis"
    ) -> None:
        self._kind = kind
        self._settings = settings
        self._id = worker_id
        self._predecessor = predecessor
        self._client = client
        self._link = Link(client)
        self._metrics = Metrics("worker", kind)
        self._leases = Leases(client, self._link, kind, worker_id, settings, self._metrics)
        self._server = WorkerServer(self._render_metrics, lambda: self._state() == "ready")
        self._thread = EngineThread(self._load_engine, self)
        self._started_s = time.time()

        self._model: ModelDescription | None = None
        self._vision_cache: VisionCache | None = None
        self._device: Device | None = None
        self._capacity = 0  # as the engine last said
        self._admitting = 0  # handed to the engine, which has not answered yet
        self._failed_steps = 0
        self._in_hand: dict[str, Delivery] = {}  # until their last event is published
        self._in_engine: set[str] = set()
        self._unpublished: dict[str, Delivery] = {}

        self._loaded = asyncio.Event()
        self._stopping = asyncio.Event()  # no more pulling
        self._is_leaving = False  # no more waiting either
        self._changed = asyncio.Event()  # room, or fewer jobs in hand
        self._has_unpublished = asyncio.Event()
        self._has_news = asyncio.Event()  # for the next heartbeat
        self._exit_code = 0
        self._pulling: asyncio.Task[None] | None = None
        self._background: set[asyncio.Task[None]] = set()

    async def run(self) -> tuple[int, bool]:
        """Returns the exit code and whether the engine's thread has ended."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)
        try:
            await self._server.start(self._settings.worker_metrics_host, self._settings.worker_metrics_port)
        except OSError as error:
            _log.error("cannot listen for metrics: %s", error)
            return EXIT_FAILED, True
        self._thread.start()
        for duty in (self._heartbeats, self._cancellations, self._release_predecessor, self._serve_jobs):
            self._in_background(duty())
        await self._stopping.wait()
        if self._loaded.is_set() and not self._is_leaving:
            await self._drain()
        await self._leave()
        return self._exit_code, self._thread.stop(0.5 if self._loaded.is_set() else 0.0)

    # What the engine's thread tells ---------------------------------------------------------------------------------

    def on_loaded(self, engine: Engine, load_s: float) -> None:
        self._model = engine.description
        self._capacity = engine.capacity
        self._vision_cache = VisionCache(self._link, self._settings, engine.description)
        self._device = Device(engine.description.device)
        self._metrics.set("model_load_seconds", load_s, model=self._kind)
        _log.info("loaded %s on %s in %.1f s", self._model.name, self._model.device, load_s)
        self._loaded.set()
        self._has_news.set()

    def on_load_failed(self, error: BaseException) -> None:
        reason = " ".join(str(error).split()) or type(error).__name__
        _log.error("cannot load the %s model: %s", self._kind, reason)
        _log.debug("it failed here", exc_info=error)
        self._stop_with(EXIT_FAILED)

    def on_state_wanted(self, job: Job, token: int, key: str) -> None:
        self._in_background(self._bring_state(job, token, key))

    def on_events(self, events: list[TokenEvent], capacity: int, admitted: int) -> None:
        self._capacity = capacity
        self._admitting -= admitted
        self._failed_steps = 0 if events else self._failed_steps
        for job_id, token, event in events:
            if isinstance(event, StateComputed):
                self._in_background(self._store_state(event))
                continue
            delivery = self._in_hand.get(job_id)
            if delivery is None or delivery.token != token:  # of a delivery that was lost meanwhile
                continue
            if isinstance(event, Generated | Failed):
                self._in_engine.discard(job_id)
            delivery.add(event)
            self._unpublished[job_id] = delivery
        self._has_unpublished.set()
        self._changed.set()

    def on_step_failed(self, error: Exception, job_ids: list[str], capacity: int) -> None:
        self._capacity = capacity
        self._failed_steps += 1
        is_memory = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
        if is_memory:
            empty_device_cache()
        reason = "the device ran out of memory" if is_memory else f"{type(error).__name__}: {error}"
        for job_id in job_ids:
            self._in_engine.discard(job_id)
            delivery = self._in_hand.get(job_id)
            if delivery is None:
                continue
            if len(job_ids) == 1:  # nothing else can have been the cause
                delivery.add(Failed(code="job_failed", message=f"job {job_id} failed: {reason}"))
                self._unpublished[job_id] = delivery
            else:
                self._drop(delivery)
                self._in_background(self._give_back(delivery, is_counted=True, alone=True))
        self._has_unpublished.set()
        self._changed.set()
        if self._failed_steps >= _MAX_FAILED_STEPS or "CUDA error" in str(error):
            _log.error("the engine is broken, leaving: %s", reason)
            self._exit_code = EXIT_FAILED
            self._stopping.set()

    # Duties ---------------------------------------------------------------------------------------------------------

    async def _serve_jobs(self) -> None:
        await self._loaded.wait()
        self._pulling = self._in_background(self._pull())
        for duty in (self._publish, self._keep_leases):
            self._in_background(duty())

    async def _pull(self) -> None:
        failures = 0
        next_recovery_s = 0.0
        while not self._stopping.is_set():
            self._changed.clear()
            room = self._room()
            if room <= 0:
                await self._changed.wait()
                continue
            try:
                taken: list[Delivery] = []
                if self._leases.must_empty or time.monotonic() >= next_recovery_s:
                    taken = await self._leases.recover(room, len(self._in_engine))
                    next_recovery_s = time.monotonic() + _BLOCK_S
                if not taken and not self._leases.must_empty:
                    taken = await self._leases.take(room, len(self._in_engine), _BLOCK_S)
                failures = 0
            except BusUnavailable as error:
                if failures == 0:
                    _log.warning("cannot take jobs: %s", error.message)
                await asyncio.sleep(_BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)])
                failures += 1
                continue
            for delivery in taken:
                if self._stopping.is_set():
                    await self._give_back(delivery, is_counted=False)
                else:
                    self._start(delivery)

    def _room(self) -> int:
        if any(self._in_hand[job_id].alone for job_id in self._in_engine):
            return 0
        if self._leases.must_empty and self._in_engine:
            return 0
        return self._capacity - self._admitting

    def _start(self, delivery: Delivery) -> None:
        self._in_hand[delivery.job_id] = delivery
        self._in_engine.add(delivery.job_id)
        self._admitting += 1
        self._thread.admit(delivery.job, delivery.token)

    async def _publish(self) -> None:
        failures = 0
        while True:
            await self._has_unpublished.wait()
            self._has_unpublished.clear()
            deliveries, self._unpublished = list(self._unpublished.values()), {}
            lost, again = await self._leases.publish(deliveries)
            for delivery in lost:
                self._cancel(delivery)
            for delivery in deliveries:
                if delivery.last_state and delivery not in again:
                    self._drop(delivery)
            if not again:
                failures = 0
                continue
            self._unpublished = {one.job_id: one for one in again if one.job_id in self._in_hand} | self._unpublished
            self._has_unpublished.set()
            await asyncio.sleep(_BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)])
            failures += 1

    async def _keep_leases(self) -> None:
        next_tidy_s = 0.0
        while True:
            await asyncio.sleep(self._settings.lease_renew_s)
            if self._is_stalled():
                continue
            with suppress(BusUnavailable):
                for delivery in await self._leases.renew(list(self._in_hand.values())):
                    self._cancel(delivery)
                if time.monotonic() >= next_tidy_s:
                    next_tidy_s = time.monotonic() + 60.0
                    await self._leases.tidy_consumers()

    async def _heartbeats(self) -> None:
        """Also the watchdog of a step that hangs."""
        while True:
            with suppress(BusUnavailable):
                await send_heartbeat(self._link, self._info(), self._settings.heartbeat_expiry_s)
            if self._thread.step_age_s > 2 * self._settings.stall_s:
                _log.error("the engine's step has hung for %.0f s, leaving", self._thread.step_age_s)
                self._stop_with(EXIT_STALLED)
                return
            self._has_news.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(min(self._settings.heartbeat_s, self._settings.stall_s / 2)):
                    await self._has_news.wait()

    async def _cancellations(self) -> None:
        """Hears of cancelled jobs at once; the next publish or renewal would tell as well."""
        while True:
            try:
                async with self._client.pubsub(ignore_subscribe_messages=True) as pubsub:
                    await pubsub.subscribe("cancelled")
                    while True:
                        message = await pubsub.get_message(timeout=1.0)
                        delivery = self._in_hand.get(message["data"].decode()) if message else None
                        if delivery is not None and not delivery.last_state:
                            self._cancel(delivery)
            except (RedisError, OSError, TimeoutError):
                await asyncio.sleep(_BACKOFF_S[-1])

    async def _release_predecessor(self) -> None:
        while self._predecessor:
            try:
                await remove_heartbeat(self._link, self._predecessor)
                released = await self._leases.release(self._predecessor)
                _log.info("%s left %d jobs behind", self._predecessor, released)
                return
            except BusUnavailable:
                await asyncio.sleep(_BACKOFF_S[-1])

    async def _bring_state(self, job: Job, token: int, key: str) -> None:
        data = b""
        with suppress(BusUnavailable):  # then it is computed
            assert self._vision_cache is not None
            data = await self._vision_cache.get(key)
        delivery = self._in_hand.get(job.job_id)
        if delivery is None or delivery.token != token:  # cancelled meanwhile
            self._admitting -= 1
            self._changed.set()
            return
        if data and isinstance(job, ChatJob):
            job = msgspec.structs.replace(job, vision_state=data)
        self._thread.admit(job, token, has_looked=True)

    async def _store_state(self, state: StateComputed) -> None:
        with suppress(BusUnavailable):  # then the next one computes it again
            assert self._vision_cache is not None
            await self._vision_cache.put(state.key, state.data)

    # Ends -----------------------------------------------------------------------------------------------------------

    def _cancel(self, delivery: Delivery) -> None:
        if delivery.job_id in self._in_engine:
            self._thread.cancel(delivery.job_id)
        self._drop(delivery)

    def _drop(self, delivery: Delivery) -> None:
        if self._in_hand.get(delivery.job_id) is delivery:
            del self._in_hand[delivery.job_id]
            self._unpublished.pop(delivery.job_id, None)
        self._in_engine.discard(delivery.job_id)
        self._changed.set()

    async def _give_back(self, delivery: Delivery, is_counted: bool, alone: bool = False) -> None:
        with suppress(BusUnavailable):  # then its lease runs out
            await self._leases.give_back(delivery, is_counted, alone)

    def _on_signal(self) -> None:
        self._is_leaving = self._stopping.is_set()  # the second one
        self._stopping.set()
        self._changed.set()
        self._has_news.set()

    def _stop_with(self, code: int) -> None:
        self._exit_code = code
        self._is_leaving = True
        self._stopping.set()
        self._changed.set()

    async def _drain(self) -> None:
        """Finish what is in hand within the time given; leave the rest to others."""
        _log.info("stopping: %d jobs in hand", len(self._in_hand))
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.drain_s):
                while self._in_hand and not self._is_leaving:
                    self._changed.clear()
                    await self._changed.wait()
                if self._pulling is not None and not self._is_leaving:
                    await asyncio.wait([self._pulling])
        leftovers = list(self._in_hand.values())
        for delivery in leftovers:
            self._thread.cancel(delivery.job_id)
        await asyncio.gather(*(self._give_back(one, is_counted=False) for one in leftovers))
        if leftovers:
            _log.info("gave %d jobs back", len(leftovers))

    async def _leave(self) -> None:
        for task in list(self._background):
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        with suppress(BusUnavailable, TimeoutError):
            async with asyncio.timeout(_LEAVE_S):
                if self._exit_code != EXIT_STALLED:  # a hung step may still be at its jobs: their leases decide
                    await self._leases.release(self._id)
                await remove_heartbeat(self._link, self._id)
        await self._server.close()
        await self._leases.close()
        await self._link.close()

    def _in_background(self, duty: Coroutine[Any, Any, Any]) -> "asyncio.Task[None]":
        task = asyncio.create_task(duty)
        self._background.add(task)
        task.add_done_callback(self._on_done)
        return task

    def _on_done(self, task: "asyncio.Task[None]") -> None:
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("the worker is broken, leaving", exc_info=error)
            self._stop_with(EXIT_FAILED)

    # What the worker says of itself ---------------------------------------------------------------------------------

    def _is_stalled(self) -> bool:
        return self._thread.step_age_s > self._settings.stall_s

    def _state(self) -> WorkerState:
        if self._stopping.is_set():
            return "draining"
        if not self._loaded.is_set():
            return "loading"
        return "stalled" if self._is_stalled() else "ready"

    def _info(self) -> WorkerInfo:
        use = self._device.read() if self._device is not None else None
        return WorkerInfo(
            worker_id=self._id,
            kind=self._kind,
            state=self._state(),
            host=socket.gethostname(),
            pid=os.getpid(),
            started_s=self._started_s,
            model=self._model,
            jobs=len(self._in_hand),
            capacity=self._capacity,
            step_age_s=self._thread.step_age_s,
            metrics_url=self._server.url,
            resident_bytes=resident_bytes(),
            gpu_used_bytes=use.used_bytes if use else 0,
            gpu_reserved_bytes=use.reserved_bytes if use else 0,
            gpu_free_bytes=use.free_bytes if use else 0,
        )

    def _render_metrics(self) -> bytes:
        model = self._kind
        self._metrics.set("jobs_in_hand", len(self._in_hand), model=model)
        self._metrics.set("worker_resident_memory_bytes", resident_bytes(), model=model)
        use = self._device.read() if self._device is not None else None
        if use is not None and self._device is not None:
            gpu = str(self._device.index)
            self._metrics.set("gpu_memory_used_bytes", use.used_bytes, model=model, gpu=gpu)
            self._metrics.set("gpu_memory_reserved_bytes", use.reserved_bytes, model=model, gpu=gpu)
            self._metrics.set("gpu_memory_free_bytes", use.free_bytes, model=model, gpu=gpu)
            self._metrics.set("gpu_utilization_ratio", use.utilization, model=model, gpu=gpu)
        return self._metrics.render()

    def _load_engine(self) -> Engine:
        """In the engine's thread: importing it takes seconds as well."""
        settings, kind = self._settings, self._kind
        if settings.threads:
            os.environ["OMP_NUM_THREADS"] = str(settings.threads)
        module, _, function = getattr(settings, f"{kind}_engine").partition(":")
        create: Callable[..., Engine] = getattr(importlib.import_module(module), function)
        return create(engine_config(kind, settings), self._metrics.observe_engine)


def engine_config(kind: Kind, settings: Settings) -> EngineConfig:
    """What the engine of this kind is built from."""
    if kind == "chat":
        return EngineConfig(
            kind=kind,
            checkpoint=settings.chat_checkpoint,
            vocabulary=settings.chat_vocab,
            device=settings.chat_device,
            dtype=settings.chat_dtype,
            max_jobs=settings.chat_max_jobs,
        )
    return EngineConfig(
        kind=kind,
        checkpoint=settings.paint_checkpoint,
        vocabulary=settings.paint_vocab,
        device=settings.paint_device,
        dtype=settings.paint_dtype,
        vae=settings.paint_vae,
        reranker=settings.paint_reranker,
        steps_offset=settings.paint_steps_offset,
        max_jobs=settings.paint_max_jobs,
    )
