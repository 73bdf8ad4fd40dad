"""Findings that several requests want at the same time are asked for once."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from models.jobs import ScreenFinding
from service.core.metrics import Metrics
from service.core.tasks import stop_tasks

Ask = Callable[[], Coroutine[Any, Any, list[ScreenFinding]]]


class SharedFindings:
    """Of contents by their keys, while they are on their way."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._asked: dict[str, asyncio.Task[list[ScreenFinding]]] = {}

    async def get(self, key: str, ask: Ask) -> list[ScreenFinding]:
        """What `ask` gives, or what it gives to another who wants to know the same. Raises what it raises."""
        task = self._asked.get(key)
        if task is None:
            task = self._asked[key] = asyncio.create_task(ask())
            task.add_done_callback(lambda done: self._answered(key, done))
        else:
            self._metrics.count("verdict_cache_hits_total")
        return await asyncio.shield(task)  # one who leaves does not take the others' verdict along

    async def close(self) -> None:
        await stop_tasks(list(self._asked.values()))

    def _answered(self, key: str, task: "asyncio.Task[list[ScreenFinding]]") -> None:
        self._asked.pop(key, None)
        if not task.cancelled():
            task.exception()  # seen, also where all who waited have left
