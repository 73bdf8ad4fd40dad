"""The worker role: one process, one model (or the screens of the safety gate); its life from loading to leaving.

The asyncio side talks to Redis and one thread owns the engine (`engine_thread`); `dispatcher` moves the jobs
between the two. Leases are renewed only while the engine's steps make progress.
"""

import asyncio
import importlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress

import uvloop

from models.jobs import Engine, Job, Kind, ModelDescription
from service.core.backoff import Backoff
from service.core.cpu_quota import threads_beside
from service.core.errors import BusUnavailable
from service.core.metrics import Metrics
from service.core.process_memory import importing, resident_bytes, settle
from service.core.settings import Settings
from service.core.tasks import TaskSupervisor
from service.queue.consumer import JobConsumer
from service.queue.heartbeat import DeviceTurn, WorkerInfo, WorkerState, remove_heartbeat, send_heartbeat
from service.queue.vision_cache import VisionCache
from service.redis.connection import RedisConnection, RedisServers, open_redis
from service.redis.keys import Keys
from service.worker.dispatcher import Dispatcher
from service.worker.engine_config import engine_config
from service.worker.engine_thread import EngineThread, TokenEvent
from service.worker.gpu_stats import Device
from service.worker.http import WorkerServer

_log = logging.getLogger(__name__)

EXIT_FAILED = 1
EXIT_STALLED = 70

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.1, 1.0  # before Redis is asked again
_TIDY_S = 60.0
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
    return await Worker(kind, settings, worker_id, predecessor, open_redis(settings)).run()


class Worker:
    """Joins one engine thread to the queue. Everything here runs on the event loop."""

    def __init__(
        self,
        kind: Kind,
        settings: Settings,
        worker_id: str,
        predecessor: str,
        servers: RedisServers,
    ) -> None:
        self._kind = kind
        self._settings = settings
        self._id = worker_id
        self._predecessor = predecessor
        self._keys = Keys(settings.redis_prefix)
        self._connection = RedisConnection(servers)
        self._metrics = Metrics("worker", kind)
        self._consumer = JobConsumer(servers, self._connection, kind, worker_id, settings, self._metrics)
        self._tasks = TaskSupervisor("worker", self._metrics, lambda name: self._stop_with(EXIT_FAILED))
        self._server = WorkerServer(
            self._render_metrics, lambda: self._state() == "ready", lambda: self._tasks.failed is None
        )
        self._thread = EngineThread(self._load_engine, self)
        self._started_s = time.time()

        self._model: ModelDescription | None = None
        self._dispatcher: Dispatcher | None = None  # once the model is loaded
        self._devices: list[Device] = []
        self._turn: dict[str, bool] = {}  # of a shared device, as the engine says
        self._failed_steps = 0

        self._loaded = asyncio.Event()
        self._stopping = asyncio.Event()  # no more jobs
        self._leaving = asyncio.Event()  # no more waiting either
        self._has_news = asyncio.Event()  # for the next heartbeat
        self._exit_code = 0
        self._pulling: asyncio.Task[None] | None = None

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
        self._tasks.start("heartbeat", self._heartbeats)
        self._tasks.start("predecessor", self._release_predecessor)
        await self._stopping.wait()
        if self._dispatcher is not None and not self._leaving.is_set():
            await self._drain(self._dispatcher)
        await self._leave()
        return self._exit_code, self._thread.stop(0.5 if self._dispatcher is not None else 0.0)

    # What the engine's thread tells ---------------------------------------------------------------------------------

    def on_loaded(self, engine: Engine, load_s: float) -> None:
        if self._stopping.is_set():
            return
        self._model = engine.description
        vision_cache = VisionCache(self._connection, self._settings)
        self._dispatcher = dispatcher = Dispatcher(
            self._consumer,
            self._thread,
            vision_cache,
            self._tasks.spawn,
            engine.capacity,
            engine.description,
        )
        self._devices = [Device(name) for name in engine.description.device.split(",")]
        self._metrics.set("model_load_seconds", load_s, model=self._kind)
        _log.info("loaded %s on %s in %.1f s", self._model.name, self._model.device, load_s)
        self._loaded.set()
        self._has_news.set()
        self._pulling = self._tasks.start("pull", dispatcher.pull)
        self._tasks.start("publish", dispatcher.publish)
        self._tasks.start("cancellations", dispatcher.hear_cancellations)
        self._tasks.start("job_leases", lambda: self._keep_leases(dispatcher))

    def on_load_failed(self, error: BaseException) -> None:
        reason = " ".join(str(error).split()) or type(error).__name__
        _log.error("cannot load the %s %s: %s", self._kind, "screens" if self._kind == "safety" else "model", reason)
        _log.debug("it failed here", exc_info=error)
        self._stop_with(EXIT_FAILED)

    def on_image_wanted(self, job: Job, token: int, key: str) -> None:
        if self._dispatcher is not None:
            self._dispatcher.on_image_wanted(job, token, key)

    def on_events(self, events: list[TokenEvent], capacity: int, admitted: int) -> None:
        if self._dispatcher is not None:
            self._failed_steps = 0 if events else self._failed_steps
            self._dispatcher.on_events(events, capacity, admitted)

    def on_step_failed(self, error: Exception, job_ids: list[str], capacity: int) -> None:
        self._failed_steps += 1
        is_lost = "CUDA error" in str(error) or bool(self._thread.failure)
        is_broken = is_lost or self._failed_steps >= _MAX_FAILED_STEPS
        if self._dispatcher is not None:
            self._dispatcher.on_step_failed(error, job_ids, capacity, is_broken)
        if is_broken:
            _log.error("the engine is broken, leaving")
            self._exit_code = EXIT_FAILED
            self._stopping.set()

    def on_broken(self, error: BaseException) -> None:
        self._tasks.fail("engine", error)

    # Duties ---------------------------------------------------------------------------------------------------------

    async def _keep_leases(self, dispatcher: Dispatcher) -> None:
        next_tidy_s = 0.0
        while True:
            await asyncio.sleep(self._settings.lease_renew_s)
            if self._is_stalled():
                continue
            with suppress(BusUnavailable):
                await dispatcher.keep_leases()
                if time.monotonic() >= next_tidy_s:
                    next_tidy_s = time.monotonic() + _TIDY_S
                    await self._consumer.tidy_consumers()

    async def _heartbeats(self) -> None:
        """Also the watchdog of the engine's thread: a step that hangs, or an end that it could not tell of; and of
        what the engine has beside it."""
        while True:
            with suppress(BusUnavailable):
                await send_heartbeat(self._connection, self._keys, self._info(), self._settings.heartbeat_expiry_s)
            if self._thread.step_age_s > 2 * self._settings.stall_s:
                _log.error("the engine's step has hung for %.0f s, leaving", self._thread.step_age_s)
                self._stop_with(EXIT_STALLED)
            if self._loaded.is_set() and self._thread.has_ended and not self._stopping.is_set():
                self._tasks.fail("engine")
            if self._thread.failure:
                self._tasks.fail("engine")
            self._has_news.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(min(self._settings.heartbeat_s, self._settings.stall_s / 2)):
                    await self._has_news.wait()

    async def _release_predecessor(self) -> None:
        backoff = Backoff(_FIRST_WAIT_S, _LONGEST_WAIT_S)
        while self._predecessor:
            try:
                await remove_heartbeat(self._connection, self._keys, self._predecessor)
                released = await self._consumer.release(self._predecessor)
                _log.info("%s left %d jobs behind", self._predecessor, released)
                return
            except BusUnavailable:
                await backoff.wait()

    # Ends -----------------------------------------------------------------------------------------------------------

    def _on_signal(self) -> None:
        if self._stopping.is_set():  # the second one
            self._leaving.set()
        self._stopping.set()
        self._has_news.set()

    def _stop_with(self, code: int) -> None:
        self._exit_code = code
        self._leaving.set()
        self._stopping.set()

    async def _drain(self, dispatcher: Dispatcher) -> None:
        """Finish what is in hand within the time given; leave the rest to others."""
        _log.info("stopping: %d jobs in hand", len(dispatcher))
        dispatcher.stop_pulling()

        async def finish() -> None:
            await dispatcher.finished()
            if self._pulling is not None:
                await asyncio.wait([self._pulling])

        waiting = [self._tasks.spawn(finish(), "the drain"), self._tasks.spawn(self._leaving.wait(), "a second signal")]
        await asyncio.wait(waiting, timeout=self._settings.drain_s, return_when=asyncio.FIRST_COMPLETED)
        if num_leftovers := await dispatcher.requeue_all():
            _log.info("gave %d jobs back", num_leftovers)

    async def _leave(self) -> None:
        await self._tasks.close()
        with suppress(BusUnavailable, TimeoutError):
            async with asyncio.timeout(_LEAVE_S):
                if self._exit_code != EXIT_STALLED:  # a hung step may still be at its jobs: their leases decide
                    await self._consumer.release(self._id)
                await remove_heartbeat(self._connection, self._keys, self._id)
        await self._server.close()
        await self._consumer.close()
        await self._connection.close()

    # What the worker says of itself ---------------------------------------------------------------------------------

    def _is_stalled(self) -> bool:
        return self._thread.step_age_s > self._settings.stall_s

    def _state(self) -> WorkerState:
        if self._stopping.is_set():
            return "draining"
        if not self._loaded.is_set():
            return "loading"
        return "stalled" if self._is_stalled() else "ready"

    def _device_turn(self) -> DeviceTurn:
        if not self._turn:
            return "own"
        if self._turn.get("device_held"):
            return "held"
        return "waiting" if self._turn.get("device_waiting") else "away"

    def _info(self) -> WorkerInfo:
        uses = [use for device in self._devices if (use := device.read()) is not None]
        return WorkerInfo(
            worker_id=self._id,
            kind=self._kind,
            state=self._state(),
            host=socket.gethostname(),
            pid=os.getpid(),
            started_s=self._started_s,
            model=self._model,
            jobs=len(self._dispatcher) if self._dispatcher is not None else 0,
            capacity=self._dispatcher.capacity if self._dispatcher is not None else 0,
            load=self._thread.load_of_engine,
            step_age_s=self._thread.step_age_s,
            device_turn=self._device_turn(),
            metrics_url=self._server.url,
            resident_bytes=resident_bytes(),
            gpu_used_bytes=sum(use.used_bytes for use in uses),
            gpu_reserved_bytes=sum(use.reserved_bytes for use in uses),
            gpu_free_bytes=sum(use.free_bytes for use in uses),
        )

    def _render_metrics(self) -> bytes:
        model = self._kind
        self._metrics.set("worker_info", 1, model=model, worker=self._id)
        self._metrics.set("jobs_in_hand", len(self._dispatcher) if self._dispatcher is not None else 0, model=model)
        self._metrics.set("worker_resident_memory_bytes", resident_bytes(), model=model)
        load = self._thread.load_of_engine
        if model == "chat":
            self._metrics.set("num_requests_running", load.running, model=model)
            self._metrics.set("num_requests_waiting", load.waiting, model=model)
            self._metrics.set("num_requests_preempted", load.preempted, model=model)
            self._metrics.set("kv_cache_usage_ratio", load.kv_blocks_used / max(load.kv_blocks, 1), model=model)
        for number, device in enumerate(self._devices):
            use = device.read()
            if use is None:
                continue
            gpu = str(device.index)
            self._metrics.set("gpu_memory_used_bytes", use.used_bytes, model=model, gpu=gpu)
            if number == 0:  # the others' allocators are in other processes
                self._metrics.set("gpu_memory_reserved_bytes", use.reserved_bytes, model=model, gpu=gpu)
            self._metrics.set("gpu_memory_free_bytes", use.free_bytes, model=model, gpu=gpu)
            self._metrics.set("gpu_utilization_ratio", use.utilization, model=model, gpu=gpu)
        return self._metrics.render()

    def _load_engine(self) -> Engine:
        """In the engine's thread: importing it takes seconds as well."""
        settings, kind = self._settings, self._kind
        if settings.threads or "OMP_NUM_THREADS" not in os.environ:
            # Torch would take every core of the machine, whatever the container may use and who else computes there
            threads = settings.threads or threads_beside(settings.host_workers)
            os.environ["OMP_NUM_THREADS"] = str(threads)
            _log.info("computing with %d threads", threads)
        # Threads that wait by spinning take the cores from whoever they wait for: with others busy, 7 times as slow
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        module, _, function = getattr(settings, f"{kind}_engine").partition(":")
        with importing():
            create: Callable[..., Engine] = getattr(importlib.import_module(module), function)
        engine = create(engine_config(kind, settings), self._observe)
        settle()
        return engine

    def _observe(self, name: str, value: float) -> None:
        """What the engine says, in its thread, also while it loads."""
        if name in ("device_held", "device_waiting"):
            self._turn[name] = bool(value)
        self._metrics.observe_engine(name, value)
