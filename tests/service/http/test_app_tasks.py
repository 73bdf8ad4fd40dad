"""Each background task of an API process, by name: it raises, is started again, and requests are answered."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from safety.verdict import Picture, Stage, Verdict
from service.core.settings import Settings
from service.core.tasks import TASKS, TaskName, tasks_of
from tests.service.faults import TaskFaults, restarts_of
from tests.service.tree import eventually, log_lines
from tests.service.web import Service, serving, sse_events
from tests.service.webhooks.receiver import SECRET

ALWAYS = [name for name in tasks_of("api") if name != "result_lease"]  # that one comes with a long screening
LONG_SCREENING_S = 1.0  # a lease is renewed after a third of the second that the tests' settings give it


class SlowScreens:
    """Passes everything, and takes its time where an answer says so."""

    are_open = False

    async def text(self, stage: Stage, text: str) -> Verdict:
        if stage == "answer" and "slow" in text:
            await asyncio.sleep(LONG_SCREENING_S)
        return Verdict(stage, "pass", {}, "slow")

    async def image(self, stage: Stage, picture: Picture, language: str = "") -> Verdict:
        return Verdict(stage, "pass", {}, "slow")


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """With a secret for webhooks: without it nobody is called, and there is no task for it."""
    return settings.model_copy(update={"webhook_secret": SECRET})


@pytest.fixture
async def faulty(settings: Settings, task_faults: TaskFaults) -> AsyncIterator[Service]:
    """A service whose tasks can be made to raise."""
    async with serving(settings, SlowScreens()) as service:
        await service.ready()
        yield service


async def test_an_api_process_runs_every_task_under_its_supervisor(service: Service) -> None:
    assert service.state.tasks.running == set(ALWAYS)
    assert {TASKS[name].on_error for name in tasks_of("api")} == {"restart"}


@pytest.mark.waiting
@pytest.mark.parametrize("name", tasks_of("api"))
async def test_a_task_that_raises_is_started_again_and_requests_are_answered(
    name: TaskName, faulty: Service, task_faults: TaskFaults, worker_log: Path
) -> None:
    in_hand = asyncio.create_task(faulty.ask("stream 200", stream=True))
    before = len(log_lines(worker_log, "step"))
    await eventually(lambda: len(log_lines(worker_log, "step")) > before + 5)
    task_faults.inject(name)
    if name == "result_lease":
        assert (await faulty.ask("echo slow")).json()["answer"] == "slow"
    await eventually(lambda: restarts_of(faulty.state.metrics, name) == 1)
    assert await faulty.metric(f'viscpm_task_restarts_total{{task="{name}"}}', "/metrics?scope=api") == 1

    events = sse_events((await asyncio.wait_for(in_hand, 20)).text)
    assert "".join(data["delta"] for _, data in events[:-2]) == "".join(f"w{i} " for i in range(200))
    answers = await asyncio.gather(*(faulty.ask(f"echo {i}") for i in range(3)))
    assert [answer.json()["answer"] for answer in answers] == ["0", "1", "2"]
    headers = {"Prefer": "respond-async"}
    job = (await faulty.client.post("/chat", json={"question": "echo later"}, headers=headers)).json()

    async def is_done() -> bool:
        return (await faulty.client.get(f"/jobs/{job['id']}")).json()["state"] == "done"

    await eventually(is_done)
    assert faulty.state.tasks.running == set(ALWAYS)
    assert (await faulty.client.get("/health/live")).status_code == 200
    assert await faulty.accounting() == {"done": 6 if name == "result_lease" else 5}


async def test_a_process_whose_task_is_gone_for_good_is_not_live(service: Service) -> None:
    service.state.tasks.fail("inbox", RuntimeError("for good"))
    told = await service.client.get("/health/live")
    assert (told.status_code, told.json()) == (503, {"status": "broken", "task": "inbox"})
    assert (await service.client.get("/v2/health/live")).status_code == 503
