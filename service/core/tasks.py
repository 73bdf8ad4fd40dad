"""Tasks in the background, and their end."""

import asyncio
from collections.abc import Iterable
from typing import Any

_PATIENCE_S = 0.1


async def stop_tasks(tasks: Iterable["asyncio.Task[Any]"]) -> None:
    """Cancel tasks until they have ended; what they raise is seen and left.

    Again and again, since a library on the way may swallow a cancellation: redis-py does while it connects.
    """
    running = {task for task in tasks if not task.done()}
    while running:
        for task in running:
            task.cancel()
        done, running = await asyncio.wait(running, timeout=_PATIENCE_S)
        for task in done:
            if not task.cancelled():
                task.exception()
