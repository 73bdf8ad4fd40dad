"""Tasks end, also those that a library keeps from hearing that they are cancelled."""

import asyncio
from contextlib import suppress

from service.core.tasks import stop_tasks


async def test_a_task_that_swallows_its_cancellation_ends_all_the_same() -> None:
    swallowed = 0

    async def deaf() -> None:
        nonlocal swallowed
        for _ in range(2):
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(60)
            swallowed += 1
        await asyncio.sleep(60)

    async def broken() -> None:
        raise ValueError("as told")

    async def done() -> None: ...

    tasks = [asyncio.create_task(run()) for run in (deaf, broken, done)]
    await asyncio.sleep(0.01)
    async with asyncio.timeout(5):
        await stop_tasks(tasks)
    assert swallowed == 2 and all(task.done() for task in tasks)
