"""Tasks in the background: every long-lived one by name, with what follows when it raises, and its end.

A task that raises, or ends without having been asked to, is started again after a wait and counted in
`viscpm_task_restarts_total`. What cannot be started again, and what fails again and again, makes the process not live
and ends it, for its supervisor to start another: a process is never ready and mute.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, Literal, NamedTuple

from service.core.backoff import Backoff
from service.core.metrics import Metrics, Role

_log = logging.getLogger(__name__)

_PATIENCE_S = 0.1
_FIRST_WAIT_S = 0.05
_LONGEST_WAIT_S = 5.0
_STEADY_S = 60.0  # what ran this long is healthy again
_MAX_FAILURES = 20  # without a steady run between them, over about a minute: another process may do better

TaskName = Literal[
    "inbox",
    "api_beat",
    "worker_registry",
    "sweeper",
    "result_lease",
    "batches",
    "webhooks",
    "heartbeat",
    "pull",
    "publish",
    "job_leases",
    "cancellations",
    "predecessor",
    "engine",
]


class TaskRule(NamedTuple):
    """Whose task it is, what follows when it raises, and whether it may end by itself."""

    role: Role
    on_error: Literal["restart", "exit"] = "restart"
    may_end: bool = False


TASKS: dict[TaskName, TaskRule] = {
    "inbox": TaskRule("api"),  # hands the events of jobs to who waits for them
    "api_beat": TaskRule("api"),
    "worker_registry": TaskRule("api"),
    "sweeper": TaskRule("api"),
    "result_lease": TaskRule("api"),  # one for each result whose screening takes long
    "batches": TaskRule("api"),  # asks for the lines of one batch at a time
    "webhooks": TaskRule("api"),  # where there is a secret to sign with
    "heartbeat": TaskRule("worker"),  # and the watch over steps that hang
    "pull": TaskRule("worker", may_end=True),
    "publish": TaskRule("worker"),
    "job_leases": TaskRule("worker"),
    "cancellations": TaskRule("worker"),
    "predecessor": TaskRule("worker", may_end=True),
    "engine": TaskRule("worker", "exit"),  # the thread: nobody knows what a half-done call left on the device
}


class TaskSupervisor:
    """The background tasks of one process.

    Args:
        on_exit: called once, when the process has to end.
    """

    def __init__(
        self, role: Role, metrics: Metrics | None = None, on_exit: Callable[[TaskName], None] | None = None
    ) -> None:
        self.failed: TaskName | None = None  # the task for which this process has to end
        self._role = role
        self._metrics = metrics
        self._on_exit = on_exit
        self._long: dict[asyncio.Task[None], TaskName] = {}
        self._short: set[asyncio.Task[Any]] = set()
        for name in tasks_of(role):
            self._count_restarts(name, 0)  # there before anything happened: a rate needs a first value

    @property
    def running(self) -> set[TaskName]:
        """The long-lived tasks that there are now."""
        return set(self._long.values())

    def start(self, name: TaskName, run: Callable[[], Awaitable[None]]) -> "asyncio.Task[None]":
        """Run a long-lived task, again and again where it fails. Cancelling what is returned ends it."""
        assert TASKS[name].role == self._role, f"{name} is a task of the {TASKS[name].role}"
        task = asyncio.create_task(self._keep(name, run), name=name)
        self._long[task] = name
        task.add_done_callback(self._long.pop)
        return task

    def spawn(self, run: Coroutine[Any, Any, Any], what: str) -> "asyncio.Task[Any]":
        """Run a short task beside the others, of one job: what it raises is logged, and ends nothing else."""
        task = asyncio.create_task(run, name=what)
        self._short.add(task)
        task.add_done_callback(self._on_short_done)
        return task

    def fail(self, name: TaskName, error: BaseException | None = None) -> None:
        """A task is gone for good: this process is not live any more, and has to end."""
        if self.failed is not None:
            return
        self.failed = name
        _log.critical("the %s is broken (task %s), leaving", self._role, name, exc_info=error)
        if self._on_exit is not None:
            self._on_exit(name)

    async def close(self) -> None:
        await stop_tasks([*self._long, *self._short])

    async def _keep(self, name: TaskName, run: Callable[[], Awaitable[None]]) -> None:
        backoff = Backoff(_FIRST_WAIT_S, _LONGEST_WAIT_S)
        while True:
            started_s = time.monotonic()
            error = await _error_of(run)
            if error is None and TASKS[name].may_end:
                return
            if time.monotonic() - started_s >= _STEADY_S:
                backoff.reset()
            wait_s = backoff.next_s()
            if TASKS[name].on_error == "exit" or backoff.failures > _MAX_FAILURES:
                self.fail(name, error)
                return
            _log.error(
                "task %s %s, starting it again in %.2f s", name, "failed" if error else "ended", wait_s, exc_info=error
            )
            self._count_restarts(name, 1)
            await asyncio.sleep(wait_s)

    def _count_restarts(self, name: TaskName, restarts: int) -> None:
        if self._metrics is not None:
            self._metrics.count("task_restarts_total", restarts, task=name)

    def _on_short_done(self, task: "asyncio.Task[Any]") -> None:
        self._short.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("%s failed", task.get_name(), exc_info=error)


def tasks_of(role: Role) -> list[TaskName]:
    """The names of a role's long-lived tasks."""
    return [name for name, rule in TASKS.items() if rule.role == role]


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


async def _error_of(run: Callable[[], Awaitable[None]]) -> BaseException | None:
    """What a run of a task raised; None: it came to its end."""
    try:
        await run()
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        return error  # of something that it waited for, and not meant for it
    except Exception as error:
        return error
    return None
