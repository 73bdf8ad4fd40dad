"""One API process' state: places for moderations, draining, and jobs that go on without their client."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.core.errors import QueueFull
from service.core.settings import Settings
from tests.service.tree import eventually, log_lines
from tests.service.web import Service, assert_error, serving


@pytest.fixture
async def small(settings: Settings) -> AsyncIterator[Service]:
    async with serving(settings.model_copy(update={"queue_size": 2})) as service:
        await service.ready()
        yield service


async def test_moderations_have_as_many_places_as_jobs_and_give_them_back(small: Service) -> None:
    with small.state.moderating():
        with pytest.raises(ValueError), small.state.moderating():
            raise ValueError("a screen broke")  # its place is free again
        with small.state.moderating():
            with pytest.raises(QueueFull, match="2 moderations are under way"), small.state.moderating():
                pass
            refused = await small.client.post("/v1/moderations", json={"input": "x"})
            assert_error(refused, 429, "queue_full")
            assert int(refused.headers["retry-after"]) >= 1
    assert small.state.num_moderating == 0
    assert (await small.ask("echo jobs have slots of their own")).status_code == 200


async def test_a_job_without_a_client_outlives_the_drains_begin(small: Service) -> None:
    headers = {"Prefer": "respond-async"}
    job = (await small.client.post("/chat", json={"question": "stream 30"}, headers=headers)).json()
    small.state.begin_drain()
    assert_error(await small.ask("echo too late"), 503, "draining")

    async def is_done() -> bool:
        return (await small.client.get(f"/jobs/{job['id']}")).json()["state"] == "done"

    await eventually(is_done)
    assert await small.accounting() == {"done": 1}


@pytest.mark.slow
async def test_new_jobs_are_taken_while_others_are_told_of_the_drain(settings: Settings) -> None:
    async with serving(settings.model_copy(update={"drain_notice_s": 1.0})) as service:
        await service.ready()
        service.state.begin_drain()
        assert (await service.client.get("/health/ready")).json()["down"] == ["api"]
        assert (await service.ask("echo in time")).status_code == 200
        await asyncio.sleep(1.0)
        assert_error(await service.ask("echo too late"), 503, "draining")


@pytest.mark.waiting
async def test_what_is_left_at_the_end_is_left_to_other_processes(
    settings: Settings, worker_log: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Closing waits for no job, and leaves no task behind; another process sees the job to its end."""
    async with serving(settings) as survivor:
        async with serving(settings) as leaving:
            await leaving.ready()
            headers = {"Prefer": "respond-async"}
            asked = {"question": "stream 500"}
            job = (await leaving.client.post("/chat", json=asked, headers=headers)).json()
            await eventually(lambda: log_lines(worker_log, "step", job["id"]))
        assert not [task for task in asyncio.all_tasks() if task.get_name() == f"job {job['id']}"]
        path = f"/jobs/{job['id']}"

        async def is_done() -> bool:
            return (await survivor.client.get(path)).json()["state"] == "done"

        await eventually(is_done)
        assert (await survivor.client.get(path)).json()["answer"]["answer"].startswith("w0 w1 ")
        assert await survivor.accounting() == {"done": 1}
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
