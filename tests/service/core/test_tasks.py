"""Tasks in the background: started again where they fail, none forgotten, and all of them end."""

import ast
import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import get_args

import pytest

from service.core import tasks
from service.core.metrics import Metrics
from service.core.tasks import TASKS, TaskName, TaskSupervisor, stop_tasks, tasks_of
from tests.service.tree import ROOT, eventually

# Where a task may begin that no TaskSupervisor starts: all that live no longer than one request, job or exchange
UNSUPERVISED = {
    "safety/gate.py:Gate._judged_together": "one request's texts, judged at the same time in a group of its own",
    "service/batches/runner.py:_BatchRun._begin": "one line of a batch: what it raises ends the batch's run",
    "service/core/tasks.py:TaskSupervisor.start": "the supervisor itself",
    "service/core/tasks.py:TaskSupervisor.spawn": "the supervisor itself",
    "service/http/admission.py:_Listener._begin": "listens for one client's end, inside its request",
    "service/http/admission.py:Slot._begin_renewing": "keeps one request's slot, until its job is queued",
    "service/http/sse.py:EventStream.__call__": "pump and listener of one stream, inside its response",
    "service/jobs/audit_file.py:AuditFile.append": "the file's own thread: what it does not write in time counts not",
    "service/jobs/finalizer.py:Finalizer._start": "one result's run, which all who wait for it await",
    "service/jobs/guards/shared_findings.py:SharedFindings.get": "one content's findings, which all who wait await",
    "service/client/batches/sender.py:_all_or_first_error": "of a command: its first error ends it",
    "service/process/supervisor.py:Supervisor.run": "the tree of `viscpm serve`, whose failure ends it",
    "service/process/supervisor.py:Supervisor._run_tree": "its children's keepers: a failure ends the tree",
    "service/redis/connection.py:RedisConnection._begin_connecting": "one attempt; who waits hears what it raises",
    "service/worker/engine_thread.py:EngineThread.__init__": "the task `engine`: watched by the worker's heartbeat",
}
_STARTERS = {"create_task", "ensure_future", "Thread", "Timer", "run_coroutine_threadsafe"}


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


# Every task, by name ------------------------------------------------------------------------------------------------


def test_every_name_has_a_rule() -> None:
    assert set(get_args(TaskName)) == set(TASKS)
    assert {*tasks_of("api"), *tasks_of("worker")} == set(TASKS)
    assert [name for name, rule in TASKS.items() if rule.on_error == "exit"] == ["engine"]


def starts(tree: ast.AST, outer: str = "") -> Iterator[str]:
    """Qualified names of the functions that start a task or a thread; once for each start."""
    for node in ast.iter_child_nodes(tree):
        inner = outer
        if isinstance(node, ast.ClassDef) or (
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not outer.rpartition(".")[2].islower()
        ):
            inner = f"{outer}.{node.name}".strip(".")
        if isinstance(node, ast.Call):
            called = node.func
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            if name in _STARTERS:
                yield outer
        yield from starts(node, inner)


@pytest.mark.slow
def test_no_long_lived_task_is_started_without_a_supervisor() -> None:
    """A new one belongs to TaskSupervisor; one that lives as long as its request has its reason above."""
    found = {
        f"{path.relative_to(ROOT).as_posix()}:{where}"
        for folder in ("service", "safety")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for where in starts(ast.parse(path.read_text("utf-8")))
    }
    assert found == set(UNSUPERVISED)


@pytest.mark.parametrize(
    "source",
    [
        "class A:\n    def f(self):\n        asyncio.create_task(g())",
        "class A:\n    async def f(self):\n        x = [loop.create_task(run()) for run in duties]",
        "class A:\n    def f(self):\n        def inner():\n            threading.Thread(target=g).start()",
        "class A:\n    def f(self):\n        with group() as tasks:\n            tasks.create_task(g())",
    ],
)
def test_a_start_is_found_wherever_it_stands(source: str) -> None:
    assert list(starts(ast.parse(source))) == ["A.f"]


# What follows when one raises ----------------------------------------------------------------------------------------


@pytest.fixture
def metrics() -> Metrics:
    return Metrics("worker", "chat")


@pytest.fixture
async def exits() -> list[TaskName]:
    return []


@pytest.fixture
async def supervisor(metrics: Metrics, exits: list[TaskName]) -> AsyncIterator[TaskSupervisor]:
    made = TaskSupervisor("worker", metrics, exits.append)
    yield made
    await made.close()


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "_FIRST_WAIT_S", 0.001)
    monkeypatch.setattr(tasks, "_LONGEST_WAIT_S", 0.002)


def restarts(metrics: Metrics, name: TaskName) -> float:
    value = metrics.registry.get_sample_value("viscpm_task_restarts_total", {"task": name})
    assert value is not None, f"no series of {name}"
    return value


class Rounds:
    """Runs of one task: each does what it is told next, the last is for good."""

    def __init__(self, *told: BaseException | None) -> None:
        self._told = list(told)
        self.count = 0

    async def run(self) -> None:
        self.count += 1
        await asyncio.sleep(0)
        if self._told:
            told = self._told.pop(0)
            if told is not None:
                raise told
            return
        await asyncio.sleep(3600)


async def test_a_task_that_raises_is_started_again_and_told_once(
    supervisor: TaskSupervisor, metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    assert {restarts(metrics, name) for name in tasks_of("worker")} == {0.0}, "there before anything happened"
    rounds = Rounds(ValueError("a bug"), KeyError("another"))
    supervisor.start("publish", rounds.run)
    await eventually(lambda: rounds.count == 3)
    assert restarts(metrics, "publish") == 2 and supervisor.failed is None
    assert supervisor.running == {"publish"}
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [record.message.partition(", ")[0] for record in errors] == ["task publish failed"] * 2
    assert all(record.exc_info for record in errors) and caplog.text.count("ValueError: a bug") == 1


async def test_a_task_that_ends_unasked_is_started_again_but_one_that_may_end_is_not(
    supervisor: TaskSupervisor, metrics: Metrics
) -> None:
    endless, brief = Rounds(None), Rounds(None)
    supervisor.start("heartbeat", endless.run)
    task = supervisor.start("predecessor", brief.run)
    await task
    await eventually(lambda: endless.count == 2)
    assert brief.count == 1 and supervisor.running == {"heartbeat"}
    assert (restarts(metrics, "heartbeat"), restarts(metrics, "predecessor")) == (1, 0)


async def test_a_cancellation_of_something_else_ends_no_task(supervisor: TaskSupervisor, metrics: Metrics) -> None:
    """Awaiting a future that somebody cancels raises CancelledError as well: a reader once ended of it, silently."""
    rounds = Rounds(asyncio.CancelledError())
    task = supervisor.start("pull", rounds.run)
    await eventually(lambda: rounds.count == 2)
    assert restarts(metrics, "pull") == 1 and not task.done()
    await stop_tasks([task])
    assert task.cancelled() and supervisor.running == set() and rounds.count == 2


@pytest.mark.usefixtures("hurried")
async def test_a_task_that_fails_again_and_again_ends_the_process(
    supervisor: TaskSupervisor, metrics: Metrics, exits: list[TaskName]
) -> None:
    rounds = Rounds(*(ValueError("always") for _ in range(1000)))
    await supervisor.start("job_leases", rounds.run)
    assert exits == ["job_leases"] and supervisor.failed == "job_leases"
    assert rounds.count == 21 and restarts(metrics, "job_leases") == 20


@pytest.mark.slow
@pytest.mark.usefixtures("hurried")
async def test_failures_between_steady_runs_do_not_add_up(
    supervisor: TaskSupervisor, exits: list[TaskName], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "_STEADY_S", 0.0)
    rounds = Rounds(*(ValueError("now and then") for _ in range(50)))
    supervisor.start("job_leases", rounds.run)
    await eventually(lambda: rounds.count == 51)
    assert exits == [] and supervisor.failed is None


async def test_what_cannot_be_started_again_ends_the_process_once(
    supervisor: TaskSupervisor, exits: list[TaskName], caplog: pytest.LogCaptureFixture
) -> None:
    supervisor.fail("engine", ValueError("the device is gone"))
    supervisor.fail("pull", ValueError("and this too"))
    assert supervisor.failed == "engine" and exits == ["engine"]
    assert "the worker is broken (task engine), leaving" in caplog.text and "the device is gone" in caplog.text


async def test_a_short_task_ends_nothing_but_itself(
    supervisor: TaskSupervisor, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken() -> None:
        raise ValueError("of one job")

    await asyncio.wait([supervisor.spawn(broken(), "job 7")])
    await asyncio.sleep(0)
    assert supervisor.failed is None
    [record] = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.message == "job 7 failed" and record.exc_info
    waiting = supervisor.spawn(asyncio.sleep(3600), "job 8")
    await supervisor.close()
    assert waiting.cancelled()


async def test_another_roles_task_is_refused(supervisor: TaskSupervisor) -> None:
    with pytest.raises(AssertionError, match="sweeper is a task of the api"):
        supervisor.start("sweeper", Rounds().run)
