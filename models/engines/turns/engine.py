"""An engine whose device is another worker's too: it computes in turn, and waits between two steps.

A worker that has jobs and not the device stands in line; each of its steps waits a moment and gives no events, so its
jobs can be cancelled at once and its leases are kept: waiting is no hanging. Who has the device keeps it for `turn_s`
while it has work, and for as long as nobody else wants it; without work it goes to the next at once, and after
`idle_unload_s` to nobody. Jobs in progress go on in the next turn where they were.

It observes `device_wait_s` (from a place in the line to the device), `device_transfer_s` (everything onto it) and,
as 0 or 1, `device_held` and `device_waiting`.
"""

import logging
import time
from collections.abc import Iterable, Sequence
from typing import Protocol

from torch import nn

from models.engines.oom import is_out_of_memory
from models.engines.turns.device_queue import DeviceQueue
from models.engines.turns.placement import Placement
from models.engines.turns.residency import InUse, Residency
from models.jobs import (
    DeviceTurns,
    Engine,
    EngineEvent,
    EngineLoad,
    Failed,
    Generated,
    Job,
    ModelDescription,
    Observe,
)

logger = logging.getLogger(__name__)

POLL_S = 0.01  # between two looks whether it is this worker's turn
REST_S = 0.05  # between two looks of an idle worker whether another one wants the device
FREEING_S = 10.0  # in which a killed worker's memory comes back, which its lock does not wait for
_RETRY_S = 0.2


class TurnTaker(Engine, Protocol):
    """An engine that can leave its device between two steps."""

    def modules(self) -> Sequence[nn.Module]:
        """All that has weights."""

    def settle(self) -> None:
        """End what is half done, and forget what is soon computed again: `in_use` has the rest."""

    def in_use(self) -> Iterable[InUse]:
        """What jobs in progress have on the device."""


class Turn:
    """Having the device, or not: the lock, the tensors and what is told of both."""

    def __init__(self, queue: DeviceQueue, placement: Placement, observe: Observe) -> None:
        self.queue = queue
        self.placement = placement
        self.began_s = 0.0
        self._asked_s = 0.0
        self._observe = observe
        observe("device_held", 0)
        observe("device_waiting", 0)

    def ask(self) -> None:
        if not self.queue.is_waiting and not self.queue.is_held:
            self.queue.ask()
            self._asked_s = time.monotonic()
            self._observe("device_waiting", 1)

    def withdraw(self) -> None:
        self.queue.withdraw()
        self._observe("device_waiting", 0)

    def try_take(self) -> bool:
        self.ask()
        if not self.queue.try_take():
            return False
        self._observe("device_waiting", 0)
        self._observe("device_held", 1)
        self._observe("device_wait_s", time.monotonic() - self._asked_s)
        self.began_s = time.monotonic()
        return True

    def release(self) -> None:
        self.queue.release()
        self._observe("device_held", 0)


class TurnTakingEngine:
    """`models.jobs.Engine` around one that has the device now, loaded and warm."""

    def __init__(self, engine: TurnTaker, turn: Turn, settings: DeviceTurns, observe: Observe) -> None:
        self._engine = engine
        self._turn = turn
        self._settings = settings
        self._observe = observe
        self._residency = Residency(turn.placement, engine.modules())
        self._jobs: set[str] = set()
        self._idle_since_s = time.monotonic()
        self._account(self._residency.bytes_here(engine.in_use()))

    @property
    def description(self) -> ModelDescription:
        return self._engine.description

    @property
    def capacity(self) -> int:
        return self._engine.capacity

    @property
    def load(self) -> EngineLoad:
        return getattr(self._engine, "load", EngineLoad())

    @property
    def weights_bytes(self) -> int:
        return self._residency.weights_bytes

    def image_key(self, job: Job) -> str | None:
        return self._engine.image_key(job)

    def admit(self, job: Job) -> None:
        self._engine.admit(job)
        self._jobs.add(job.job_id)
        self._turn.ask()

    def step(self) -> list[tuple[str, EngineEvent]]:
        """A step of the engine in its turn, nothing while another worker has its own."""
        if not self._jobs or not self._has_device():
            return []
        events = self._engine.step()
        for job_id, event in events:
            if isinstance(event, Generated | Failed):
                self._forget(job_id)
        is_over = time.monotonic() - self._turn.began_s >= self._settings.turn_s
        if self._jobs and is_over and self._turn.queue.is_wanted():
            self._leave()
            self._turn.ask()
        return events

    def cancel(self, job_id: str) -> None:
        self._engine.cancel(job_id)
        self._forget(job_id)

    def rest(self) -> float | None:
        """Lets the device go where another one wants it, or after a while; see `models.jobs.Engine`."""
        if not self._turn.queue.is_held:
            return None
        left_s = self._idle_since_s + self._settings.idle_unload_s - time.monotonic()
        if left_s <= 0 or self._turn.queue.is_wanted():
            self._leave()
            return None
        return min(REST_S, left_s)

    def _forget(self, job_id: str) -> None:
        if job_id not in self._jobs:
            return
        self._jobs.discard(job_id)
        if not self._jobs:
            self._idle_since_s = time.monotonic()
            self._turn.withdraw()

    def _has_device(self) -> bool:
        """Whether it has, or could be had within a moment."""
        if self._residency.is_here:
            return True
        if not self._turn.try_take():
            time.sleep(POLL_S)
            if not self._turn.try_take():
                return False
        try:
            self._arrive()
        except BaseException:
            self._account(0)
            self._turn.release()
            raise
        return True

    def _arrive(self) -> None:
        started_s = time.monotonic()
        while True:
            try:
                self._account(self._residency.bytes_to_come)
                self._residency.arrive()
                break
            except Exception as error:
                if not is_out_of_memory(error) or time.monotonic() - started_s > FREEING_S:
                    raise
                logger.warning("the device is not free yet: %s", error)
            time.sleep(_RETRY_S)
        self._turn.began_s = time.monotonic()
        self._observe("device_transfer_s", self._turn.began_s - started_s)

    def _leave(self) -> None:
        self._engine.settle()
        self._residency.leave(list(self._engine.in_use()))
        self._account(self._residency.bytes_here(self._engine.in_use()))
        self._turn.release()
        logger.debug("the device is free after %.1f s", time.monotonic() - self._turn.began_s)

    def _account(self, held_bytes: int) -> None:
        """Raises DeviceFull."""
        self._turn.queue.account(held_bytes, self._turn.placement.total_bytes)
