"""Each background task of a worker, by name: it raises, is started again or ends the process, and jobs are answered."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path

import pytest

from models.jobs import ChatJob
from service.core.settings import Settings
from service.core.tasks import TASKS, TaskName, tasks_of
from service.queue.consumer import Delivery, JobConsumer, PublishResult
from service.worker.dispatcher import Dispatcher
from service.worker.worker import EXIT_FAILED, Worker
from tests.service.faults import TaskFaults, restarts_of
from tests.service.tree import ApiSide, StartWorker, eventually, log_lines, quick_settings, scrape

RESTARTED = [name for name in tasks_of("worker") if TASKS[name].on_error == "restart"]
BREAKS = ("capacity", "cancel", "image_key", "admit")  # of the task `engine`


StartHere = Callable[[], Awaitable[Worker]]


@pytest.fixture
async def start_here(
    settings: Settings, api: ApiSide, monkeypatch: pytest.MonkeyPatch, engine_log: Path, task_faults: TaskFaults
) -> AsyncIterator[StartHere]:
    """A worker in this process, whose tasks can be made to raise."""
    monkeypatch.setenv("VISCPM_TEST_LOG", str(engine_log))
    monkeypatch.setenv("VISCPM_TEST_STEP_S", "0.01")
    running: list[asyncio.Task[tuple[int, bool]]] = []

    async def start() -> Worker:
        worker = Worker("chat", settings, "here", "a-dead-one", api.servers)
        running.append(asyncio.create_task(worker.run()))

        async def is_ready() -> bool:
            return any(one.info.state == "ready" for one in await api.workers())

        await eventually(is_ready)
        return worker

    yield start
    for task in running:
        signal.raise_signal(signal.SIGTERM)
        code, has_thread_ended = await asyncio.wait_for(task, 10)
        assert (code, has_thread_ended) == (0, True)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().remove_signal_handler(number)


def test_every_task_is_made_to_raise_here() -> None:
    assert {*RESTARTED, "engine"} == set(tasks_of("worker")), "a task that no test below makes raise"


@pytest.mark.waiting
@pytest.mark.parametrize("name", RESTARTED)
async def test_a_task_that_raises_is_started_again_and_jobs_are_answered(
    name: TaskName, start_here: StartHere, api: ApiSide, task_faults: TaskFaults, engine_log: Path
) -> None:
    if TASKS[name].may_end:  # it may be over by the time that anything is ready
        task_faults.inject(name)
    worker = await start_here()
    in_hand = asyncio.create_task(api.request("stream 60", stream=True))
    await eventually(lambda: len(log_lines(engine_log, "step")) >= 5)
    if not TASKS[name].may_end:
        task_faults.inject(name)
    await eventually(lambda: restarts_of(worker._metrics, name) == 1)
    outcome = await asyncio.wait_for(in_hand, 20)
    assert outcome.streamed == outcome.answer == "".join(f"w{i} " for i in range(60)), "each word once"
    assert [(await api.request(f"echo {i}")).answer for i in range(3)] == ["0", "1", "2"]

    cancelled = await api.start("stream 100000")
    await eventually(lambda: log_lines(engine_log, "step", cancelled))
    assert await api.producer.cancel(cancelled, "client_gone")
    await eventually(lambda: log_lines(engine_log, "cancel", cancelled))
    [live] = await api.workers()
    assert f'viscpm_task_restarts_total{{task="{name}"}} 1.0' in await scrape(live.info.metrics_url)
    assert worker._tasks.failed is None
    await api.check_accounting(accepted=5, done=4, cancelled=1)


@pytest.mark.own_process
@pytest.mark.parametrize("where", BREAKS)
async def test_an_engine_that_breaks_outside_of_a_step_ends_its_process_and_others_go_on(
    where: str, redis_url: str, api: ApiSide, start_worker: StartWorker, engine_log: Path
) -> None:
    """FAULTS 41: never a worker that says ready and answers nothing."""
    factory = "tests.service.engines:create_breaking"
    patient = {"lease_s": 600.0, "lease_renew_s": 100.0, "max_deliveries": 2}  # no lease runs out here
    broken = start_worker(quick_settings(redis_url, chat_engine=factory, chat_checkpoint=where, **patient), step_s=0.01)
    await api.ready(broken)
    assert (await api.request("echo before")).answer == "before"
    in_hand = asyncio.create_task(api.request("stream 200"))
    breaking = asyncio.create_task(api.request("echo break"))
    if where == "cancel":
        await breaking
        cancelled = await api.start("stream 100000")
        await eventually(lambda: log_lines(engine_log, "step", cancelled))
        await api.producer.cancel(cancelled, "client_gone")
    assert await broken.exit_code(10) == EXIT_FAILED
    said = broken.said()
    assert "the worker is broken (task engine), leaving" in said and 'engines.py", line' in said
    assert not [one for one in await api.workers() if one.info.worker_id == broken.id], "it said that it left"
    await api.ready(start_worker(quick_settings(redis_url, **patient)))
    assert (await asyncio.wait_for(in_hand, 10)).answer == "".join(f"w{i} " for i in range(200))
    assert (await asyncio.wait_for(breaking, 10)).answer == "break"
    await api.check_accounting(accepted=4 if where == "cancel" else 3, done=3)


@pytest.mark.own_process
async def test_an_engine_that_lost_a_part_ends_its_process_while_its_step_hangs(
    redis_url: str, api: ApiSide, start_worker: StartWorker, engine_log: Path
) -> None:
    """As a model over several devices does: long before the step counts as hung, and its jobs go on elsewhere."""
    patient = {"lease_s": 600.0, "lease_renew_s": 100.0, "stall_s": 60.0}
    losing = quick_settings(redis_url, chat_engine="tests.service.engines:create_losing", **patient)
    broken = start_worker(losing, step_s=0.01)
    await api.ready(broken)
    request = asyncio.create_task(api.request("echo lose"))
    assert await broken.exit_code(10) == EXIT_FAILED
    assert "the worker is broken (task engine), leaving" in broken.said()
    await api.ready(start_worker(quick_settings(redis_url, **patient)))
    assert (await asyncio.wait_for(request, 10)).answer == "lose"

    whole = start_worker(losing)
    await api.ready(whole)
    whole.signal(signal.SIGTERM)
    assert await whole.exit_code(10) == 0
    assert len(log_lines(engine_log, "close")) == 1, "what it has beside it is ended with it"


@pytest.mark.slow
async def test_what_a_failed_publish_held_is_published_by_the_next(
    start_here: StartHere, api: ApiSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = await start_here()
    publish, calls = JobConsumer.publish, 0

    async def fail_sometimes(consumer: JobConsumer, deliveries: Iterable[Delivery]) -> PublishResult:
        nonlocal calls
        calls += 1
        if calls % 3 == 1:
            raise ValueError("before it was sent")
        published = await publish(consumer, deliveries)
        if calls % 3 == 2:
            raise ValueError("after it was sent")
        return published

    monkeypatch.setattr(JobConsumer, "publish", fail_sometimes)
    outcome = await asyncio.wait_for(api.request("stream 10", stream=True), 20)
    assert outcome.streamed == outcome.answer == "".join(f"w{i} " for i in range(10))
    assert restarts_of(worker._metrics, "publish") >= 2
    await eventually(lambda: worker._info().jobs == 0)
    await api.check_accounting(accepted=1, done=1)


@pytest.mark.slow
async def test_an_image_that_cannot_be_brought_is_its_jobs_failure(
    start_here: StartHere, api: ApiSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    await start_here()

    async def broken(consumer: JobConsumer, job: ChatJob) -> bytes:
        raise ValueError("not as it was stored")

    monkeypatch.setattr(JobConsumer, "pixels", broken)
    failed = await api.request("echo a", image_key="tenant:digest", image_size_px=2)
    assert failed.ending is not None and (failed.ending.state, failed.ending.code) == ("failed", "job_failed")
    assert "ValueError: not as it was stored" in failed.ending.message
    assert [(await api.request(f"echo {i}")).answer for i in range(5)] == list("01234"), "its place is free again"
    await api.check_accounting(accepted=6, done=5, failed=1)


@pytest.mark.waiting
async def test_a_worker_that_gets_its_own_job_again_goes_on_with_the_new_delivery(
    start_here: StartHere, api: ApiSide, monkeypatch: pytest.MonkeyPatch, engine_log: Path
) -> None:
    """After Redis was away for longer than a lease. What the first delivery says is refused: it must not stop the next.

    The job was then in hand for good, its lease renewed, and forgotten by the engine.
    """

    keep_leases, publish = Dispatcher.keep_leases, JobConsumer.publish

    async def forget(dispatcher: Dispatcher) -> None: ...

    async def publish_late(consumer: JobConsumer, deliveries: Iterable[Delivery]) -> PublishResult:
        await asyncio.sleep(0.2)  # so that some of the first delivery's events are on their way when it loses its lease
        return await publish(consumer, deliveries)

    await start_here()
    monkeypatch.setattr(JobConsumer, "publish", publish_late)
    monkeypatch.setattr(Dispatcher, "keep_leases", forget)
    running = asyncio.create_task(api.request("stream 400", stream=True))
    await eventually(lambda: len(log_lines(engine_log, "admit")) == 2)
    monkeypatch.setattr(Dispatcher, "keep_leases", keep_leases)
    outcome = await asyncio.wait_for(running, 20)
    assert outcome.streamed == outcome.answer == "".join(f"w{i} " for i in range(400)), "each word once"
    await api.check_accounting(accepted=1, done=1)
