"""One ask for all who want to know the same at the same time."""

import asyncio

import pytest

from models.jobs import ScreenFinding
from service.core.metrics import Metrics
from service.jobs.guards.shared_findings import SharedFindings

FOUND = [ScreenFinding(screen="qwen3guard", scores={"hate": 1.0}, version="v")]


async def test_what_is_on_its_way_is_not_asked_for_again() -> None:
    asked, going_on = 0, asyncio.Event()

    async def ask() -> list[ScreenFinding]:
        nonlocal asked
        asked += 1
        await going_on.wait()
        return FOUND

    metrics = Metrics("api")
    shared = SharedFindings(metrics)
    waiting = [asyncio.create_task(shared.get(key, ask)) for key in ("a", "a", "b", "a")]
    await asyncio.sleep(0)
    waiting[0].cancel()  # one who leaves does not take the others' along
    await asyncio.sleep(0)
    going_on.set()
    assert [await task for task in waiting[1:]] == [FOUND] * 3 and asked == 2
    assert b"viscpm_verdict_cache_hits_total 2.0" in metrics.render()
    assert await shared.get("a", ask) == FOUND and asked == 3  # once it is there, keeping it is another's


async def test_a_failure_is_everybodys_and_the_next_one_asks_again() -> None:
    async def fail() -> list[ScreenFinding]:
        await asyncio.sleep(0.01)
        raise ValueError("as told")

    async def ask() -> list[ScreenFinding]:
        return FOUND

    shared = SharedFindings(Metrics("api"))
    results = await asyncio.gather(*(shared.get("a", fail) for _ in range(2)), return_exceptions=True)
    assert [type(one) for one in results] == [ValueError, ValueError]
    assert await shared.get("a", ask) == FOUND


async def test_what_is_under_way_ends_with_the_process() -> None:
    async def ask() -> list[ScreenFinding]:
        await asyncio.sleep(3600)
        return FOUND

    shared = SharedFindings(Metrics("api"))
    waiting = asyncio.create_task(shared.get("a", ask))
    await asyncio.sleep(0)
    await shared.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
