"""What no request cares for any more: lost slots, overdue jobs, results whose API process died, old conversations."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from service.core.errors import ServiceError
from service.core.tasks import TaskSupervisor, stop_tasks
from service.queue.record import SweepCounts

_log = logging.getLogger(__name__)


class Sweeper:
    """Sweeps about every `sweep_s` seconds, with jitter so that processes take turns.

    Args:
        sweep: ends what outlived its slot, and what no worker is left for.
        adopt_abandoned: finalizes results whose process is gone (Finalizer.adopt_abandoned).
        make_room: drops conversations that expired or exceed their budget (Conversations.make_room).
        tasks: keeps the rounds.
    """

    def __init__(
        self,
        sweep: Callable[[], Awaitable[SweepCounts]],
        adopt_abandoned: Callable[[], Awaitable[int]],
        make_room: Callable[[], Awaitable[int]],
        sweep_s: float,
        tasks: TaskSupervisor | None = None,
    ) -> None:
        self._sweep = sweep
        self._adopt_abandoned = adopt_abandoned
        self._make_room = make_room
        self._sweep_s = sweep_s
        self._tasks = tasks or TaskSupervisor("api")
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = self._tasks.start("sweeper", self._run)

    async def close(self) -> None:
        if self._task is not None:
            await stop_tasks([self._task])

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._sweep_s * random.uniform(0.75, 1.25))
            try:
                await self.sweep_once()
            except ServiceError as error:  # Redis is away: the next round finds the same
                _log.debug("not swept: %s", error.message)

    async def sweep_once(self) -> None:
        """Raises BusUnavailable."""
        counts = await self._sweep()
        adopted = await self._adopt_abandoned()
        if dropped := await self._make_room():
            _log.info("dropped %d conversations, which expired or were used longest ago", dropped)
        if counts.expired or counts.overdue or counts.lost or counts.unserved or adopted:
            _log.info(
                "swept: %d slots without a job, %d overdue jobs, %d lost jobs, %d jobs without a worker, "
                "%d abandoned results",
                counts.expired,
                counts.overdue,
                counts.lost,
                counts.unserved,
                adopted,
            )
