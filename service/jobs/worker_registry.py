"""Which workers live and what they serve, from their heartbeats; read in the background, so that no request waits."""

import asyncio
import logging

import msgspec

from models.jobs import Kind, Model, ModelDescription, VersionMismatch
from service.core.errors import BusUnavailable, ModelLoading, ModelUnavailable, NoWorker, ScreenUnavailable
from service.core.settings import Settings
from service.core.tasks import TaskSupervisor, stop_tasks
from service.queue.heartbeat import LiveWorker, last_model, live_workers
from service.redis.connection import RedisConnection, RedisServers
from service.redis.keys import Keys

_log = logging.getLogger(__name__)

_STALE_S = 5.0  # without a refresh for this long the server counts as away
_LOOK_S = 0.5  # that a request waits for a second look


class SharedState(msgspec.Struct, frozen=True):
    """What all API processes share in Redis, for metrics: slots taken and restarts by kind, jobs by kind and state."""

    depth: dict[str, int]
    jobs: dict[tuple[str, str], int]
    restarts: dict[str, int]


class WorkerRegistry:
    """Live workers by kind, at most about a second old."""

    def __init__(self, redis: RedisServers, settings: Settings, tasks: TaskSupervisor | None = None) -> None:
        self._connection = RedisConnection(redis)
        self._keys = Keys(settings.redis_prefix)
        self._kinds = settings.kinds
        self._served = settings.models
        self._refresh_s = min(1.0, settings.heartbeat_s / 2)
        self._workers: list[LiveWorker] = []
        self._models: dict[Kind, ModelDescription] = {}  # of live workers
        self._last_models: dict[Kind, ModelDescription] = {}  # of those and, where there are none, of the last ones
        self._no_worker_s = settings.no_worker_s
        self._heard_s: dict[Kind, float] = {}  # when a worker's last heartbeat came, by the event loop's clock
        self._refreshed = float("-inf")
        self._tasks = tasks or TaskSupervisor("api")
        self._task: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self._refresh()
        self._task = self._tasks.start("worker_registry", self._keep_fresh)

    async def close(self) -> None:
        await stop_tasks([task for task in (self._task, self._looking) if task is not None])
        await self._connection.close()

    @property
    def is_fresh(self) -> bool:
        """Whether Redis answered lately."""
        return asyncio.get_running_loop().time() - self._refreshed < _STALE_S

    def workers(self, kind: Kind | None = None) -> list[LiveWorker]:
        return [worker for worker in self._workers if kind is None or worker.info.kind == kind]

    def is_ready(self, kind: Kind) -> bool:
        return self.is_fresh and any(worker.info.state == "ready" for worker in self.workers(kind))

    def model(self, kind: Kind) -> ModelDescription | None:
        """What a live worker of this kind serves; of several models, which a rolling change of it has, the newest."""
        return self._models.get(kind)

    def last_model(self, kind: Kind) -> ModelDescription | None:
        """The same, or what the last worker of this kind served."""
        return self._last_models.get(kind)

    def unserved(self) -> list[Model]:
        """Models of which no worker has been heard of for VISCPM_NO_WORKER_S; none while Redis is away."""
        if not self.is_fresh:
            return []
        latest_s = asyncio.get_running_loop().time() - self._no_worker_s
        return [model for model in self._served if not self.workers(model) and self._heard_s[model] <= latest_s]

    async def find(self, kind: Kind) -> ModelDescription:
        """`require`, after a second look where nobody is known to serve it: another API process may have told a client
        otherwise already."""
        if kind in self._served and kind not in self._models and self.is_fresh:
            if self._looking is None or self._looking.done():
                self._looking = self._tasks.spawn(self._refresh(), "a second look at the workers")
            await asyncio.wait([self._looking], timeout=_LOOK_S)
        return self.require(kind)

    def require(self, kind: Kind) -> ModelDescription:
        """The model that a job of this kind will meet; during a rolling change of it, one of those.

        While all workers are loading it has the shape of what the last ones served, and no name: nobody serves that
        model any more, and the answer will tell which one gave it.

        Raises BusUnavailable when Redis is away, NoWorker when no worker of this kind lives, ModelLoading when all are
        loading and none ever served a model, ModelUnavailable for a model that is not offered here.
        """
        if kind not in self._served:
            raise ModelUnavailable(f"{kind} is not served here (VISCPM_MODELS names {', '.join(self._served)})")
        if not self.workers(kind):
            if not self.is_fresh:
                raise BusUnavailable("the queue's server does not answer")
            raise NoWorker(f"no {kind} worker is alive")
        model = self._models.get(kind)
        if model is not None:
            return model
        last = self._last_models.get(kind)
        if last is None:
            raise ModelLoading(f"the {kind} model is being loaded")
        return msgspec.structs.replace(last, name="", fingerprint="")

    @property
    def screens_are_gone(self) -> bool:
        """Whether it is known that nobody judges: no safety worker lives, or those that do are on their way out."""
        if "safety" not in self._kinds or not self.is_fresh:
            return False
        return all(worker.info.state == "draining" for worker in self.workers("safety"))

    def require_screens(self) -> None:
        """Raises ScreenUnavailable where a model's pictures would have to be judged and no safety worker lives."""
        if self.screens_are_gone:
            raise ScreenUnavailable("no safety worker is alive, and nothing leaves unscreened")

    async def shared_state(self) -> SharedState:
        """Read now. Raises BusUnavailable."""
        accounting, restarts, *depths = await asyncio.gather(
            self._connection.send("HGETALL", self._keys.accounting),
            self._connection.send("HGETALL", self._keys.restarts),
            *(self._connection.send("ZCARD", self._keys.slots(kind)) for kind in self._kinds),
        )
        jobs = {}
        for name, count in accounting.items():
            state, kind = name.decode().split(":")
            jobs[kind, state] = int(count)
        return SharedState(
            depth={kind: int(depth) for kind, depth in zip(self._kinds, depths, strict=True)},
            jobs=jobs,
            restarts={kind.decode(): int(count) for kind, count in restarts.items()},
        )

    async def _keep_fresh(self) -> None:
        while True:
            await asyncio.sleep(self._refresh_s)
            await self._refresh()

    async def _refresh(self) -> None:
        try:
            workers = await live_workers(self._connection, self._keys)
            models = _served_by(workers)
            for kind in self._kinds:
                last = models.get(kind) or self._last_models.get(kind)
                last = last or await last_model(self._connection, self._keys, kind)
                if last is not None:
                    self._last_models[kind] = last
        except BusUnavailable as error:
            if self.is_fresh:
                _log.warning("heartbeats cannot be read: %s", error.message)
            self._refreshed = float("-inf")
            return
        except (msgspec.DecodeError, VersionMismatch) as error:
            _log.error("a heartbeat cannot be read: %s", error)
            return
        now_s = asyncio.get_running_loop().time()
        if not self.is_fresh:  # nobody could be heard while Redis was away: workers get their time again
            self._heard_s = dict.fromkeys(self._kinds, now_s)
        for worker in workers:
            kind = worker.info.kind
            self._heard_s[kind] = max(self._heard_s.get(kind, 0.0), now_s - worker.age_s)
        self._workers, self._models = workers, models
        self._refreshed = now_s


def _served_by(workers: list[LiveWorker]) -> dict[Kind, ModelDescription]:
    """The model of each kind: a ready worker's before others', then that of the worker which started last."""
    models: dict[Kind, ModelDescription] = {}
    for worker in sorted(workers, key=lambda one: (one.info.state == "ready", one.info.started_s, one.info.worker_id)):
        if worker.info.model is not None:
            models[worker.info.kind] = worker.info.model
    return models
