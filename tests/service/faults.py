"""Exceptions put into the background tasks of a process, by the tasks' names."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable

import pytest

from service.core.metrics import Metrics
from service.core.tasks import TaskName, TaskSupervisor, stop_tasks


class InjectedFault(Exception):
    """Raised by a task because a test said so."""


class TaskFaults:
    """Makes every task that is started from now on raise when it is told to, wherever it waits then."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._told: defaultdict[TaskName, asyncio.Event] = defaultdict(asyncio.Event)
        start = TaskSupervisor.start

        def start_faulty(
            supervisor: TaskSupervisor, name: TaskName, run: Callable[[], Awaitable[None]]
        ) -> "asyncio.Task[None]":
            return start(supervisor, name, lambda: self._run(name, run))

        monkeypatch.setattr(TaskSupervisor, "start", start_faulty)

    def inject(self, name: TaskName) -> None:
        """One exception, in the task that runs or in the next one of this name."""
        self._told[name].set()

    async def _run(self, name: TaskName, run: Callable[[], Awaitable[None]]) -> None:
        told = self._told[name]
        running, waiting = asyncio.ensure_future(run()), asyncio.create_task(told.wait())
        try:
            await asyncio.wait([running, waiting], return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                running.result()
                return
            told.clear()
            raise InjectedFault(f"in {name}")
        finally:
            await stop_tasks([running, waiting])


def restarts_of(metrics: Metrics, name: TaskName) -> float:
    value = metrics.registry.get_sample_value("viscpm_task_restarts_total", {"task": name})
    assert value is not None, f"no series of {name}"
    return value
