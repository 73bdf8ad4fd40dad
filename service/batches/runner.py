"""Works on batches: each API process on one at a time, a few of its lines at once, as long as it has the lease.

A line is a request of the batch's tenant under an Idempotency-Key of its own, so a line that a process died with is not
executed again by the next: it gets the answer of the job that there is. What says "later" (no slot, no worker, a limit)
is asked again until the batch expires.
"""

import asyncio
import itertools
import logging
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Protocol

from service.batches.batch_store import BatchRequest, BatchStore, Counted, EndStatus, HeldBatch, LeaseLost, LeaseState
from service.batches.files import Files
from service.batches.lines import LineAnswer, LineError, RequestLine, read_request, result_line, unanswered_line
from service.core.backoff import Backoff
from service.core.errors import BusUnavailable, Cancelled, Deadline, ServiceError, StorageFull
from service.core.metrics import Metrics
from service.core.settings import Settings
from service.core.tasks import TaskSupervisor, stop_tasks

_log = logging.getLogger(__name__)

_LATER = (409, 429, 503)  # what is asked again, as clients do
_MAX_DEADLINES = 3  # tries of a line whose job did not get its turn in time
_TURN_LEASES = 2  # for which a batch is worked on while others wait
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.2, 10.0
_UNANSWERED = {
    "cancelled": ("batch_cancelled", "the batch was cancelled before this request was executed"),
    "expired": ("batch_expired", "the batch expired before this request was executed"),
}


class LineSender(Protocol):
    """The way of a line to the service's own routes."""

    async def send(self, batch: BatchRequest, line: RequestLine, key: str) -> LineAnswer:
        """The answer. `key` is the line's Idempotency-Key. Raises InvalidApiKey where the batch's key is no good."""

    async def withdraw(self, batch: BatchRequest, key: str) -> None:
        """Cancel the line's job if it waits still. Raises BusUnavailable."""

    @property
    def is_closing(self) -> bool:
        """Whether this process is shutting down: others go on with batches."""


class _Stopped(Exception):
    """The batch cannot go on."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.error = LineError(code, message)


class BatchRunner:
    """One for each API process."""

    def __init__(
        self,
        batches: BatchStore,
        files: Files,
        sender: LineSender,
        settings: Settings,
        metrics: Metrics,
        tasks: TaskSupervisor,
    ) -> None:
        self.batches = batches
        self.files = files
        self.sender = sender
        self.settings = settings
        self.metrics = metrics
        self._tasks = tasks
        self._task: asyncio.Task[None] | None = None
        self._held: HeldBatch | None = None

    def start(self) -> None:
        self._task = self._tasks.start("batches", self._run)

    async def close(self) -> None:
        """What is under way is left to other processes, at once: its jobs go on."""
        if self._task is not None:
            await stop_tasks([self._task])
        if self._held is not None:
            with suppress(LeaseLost, BusUnavailable):
                await self.batches.give_up(self._held)

    async def _run(self) -> None:
        while True:
            try:
                may_work = self.settings.batch_jobs and not self.sender.is_closing
                self._held = await self.batches.take() if may_work else None
                if self._held is not None:
                    await _BatchRun(self, self._held).run()
                    self._held = None
                    continue
                await self.files.sweep()
            except LeaseLost:
                _log.info("a batch is worked on by another process by now")
            except ServiceError as error:  # Redis is away: the next round finds the same
                _log.debug("no work on batches: %s", error.message)
            await asyncio.sleep(self.settings.sweep_s * random.uniform(0.75, 1.25))


class _BatchRun:
    """One batch, from when it was taken to its end, or to where others go on with it."""

    def __init__(self, runner: BatchRunner, held: HeldBatch) -> None:
        self._runner = runner
        self._batches = runner.batches
        self._held = held
        self._renew_s = runner.settings.lease_s / 3
        self._recorded: set[int] = set()  # lines that got their result in this run
        self._under_way: dict[asyncio.Task[None], int] = {}  # with the place of the line in the file
        self._is_leaving = asyncio.Event()  # nothing is begun or asked again any more
        self._ends_as: EndStatus = "completed"

    async def run(self) -> None:
        """Raises LeaseLost, BusUnavailable; whoever takes the batch next goes on with it."""
        try:
            if await self._answer_lines():
                await self._end()
            else:
                await self._batches.give_up(self._held)
        except _Stopped as stopped:
            _log.warning("batch %s cannot go on: %s", self._held.request.id, stopped)
            await self._batches.end(self._held, "failed", [stopped.error])
        except (LeaseLost, ServiceError):
            raise
        except Exception:  # the next process would come to the same
            _log.exception("batch %s broke", self._held.request.id)
            error = LineError("internal_error", "the batch broke; its id names it in the server's log")
            await self._batches.end(self._held, "failed", [error])
        finally:
            await stop_tasks(list(self._under_way))

    async def _answer_lines(self) -> bool:
        """Whether the batch is over; else others' turn has come."""
        loop, lines = asyncio.get_running_loop(), self._open_lines()
        turn_ends_s = loop.time() + _TURN_LEASES * self._runner.settings.lease_s
        while True:
            state = await self._batches.renew(self._held)
            is_others_turn = state.num_waiting > 0 and loop.time() >= turn_ends_s
            is_yielding = is_others_turn or self._runner.sender.is_closing
            is_ending = self._is_ending(state)
            if is_ending or is_yielding:
                self._is_leaving.set()
            if is_ending:
                for number in list(self._under_way.values()):
                    await self._runner.sender.withdraw(self._held.request, self._key(number))
            if not self._is_leaving.is_set():
                await self._begin(lines)
            if not self._under_way:
                break
            await self._wait()
        if self._ends_as != "completed" or not self._is_leaving.is_set():
            return True
        return await anext(self._open_lines(), None) is None

    def _is_ending(self, state: LeaseState) -> bool:
        if state.status == "cancelling":
            self._ends_as = "cancelled"
        elif state.left_s <= 0:
            self._ends_as = "expired"
        return self._ends_as != "completed"

    async def _begin(self, lines: AsyncIterator[tuple[int, RequestLine]]) -> None:
        while len(self._under_way) < self._runner.settings.batch_jobs:
            found = await anext(lines, None)
            if found is None:
                return
            number, line = found
            self._under_way[asyncio.create_task(self._answer(number, line))] = number

    async def _wait(self) -> None:
        """For a line, or for the time to renew the lease."""
        done, _ = await asyncio.wait(self._under_way, timeout=self._renew_s, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            del self._under_way[task]
            task.result()

    async def _open_lines(self) -> AsyncIterator[tuple[int, RequestLine]]:
        """The requests that have no result, each with its place in the file."""
        request = self._held.request
        for number in itertools.count():
            if number in self._recorded or self._held.is_done(number):
                continue  # not read again: of a batch that was taken over these may be nearly all
            line = await self._runner.files.line(request.tenant, request.input_file_id, number)
            if line is None:
                return
            if line.strip():
                yield number, read_request(line)

    async def _answer(self, number: int, line: RequestLine) -> None:
        """Ask until there is an answer, and write it. Raises _Stopped, LeaseLost."""
        backoff, deadlines = Backoff(_FIRST_WAIT_S, _LONGEST_WAIT_S), 0
        while not self._is_leaving.is_set():
            answer = await self._ask(number, line)
            if answer.code == Cancelled.code and self._is_leaving.is_set():
                return  # it was withdrawn
            deadlines += answer.code == Deadline.code
            is_late = answer.code == Deadline.code and deadlines < _MAX_DEADLINES
            if answer.status not in _LATER and not is_late:
                counted: Counted = "completed" if answer.status < 400 else "failed"
                await self._record(number, counted, result_line(self._result_id(number), line.custom_id, answer))
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(max(answer.retry_after_s, backoff.next_s())):
                    await self._is_leaving.wait()

    async def _ask(self, number: int, line: RequestLine) -> LineAnswer:
        """Raises _Stopped where the batch's API key is no good any more."""
        try:
            return await self._runner.sender.send(self._held.request, line, self._key(number))
        except BusUnavailable as error:
            return LineAnswer(error.status, "", b"", error.code)
        except ServiceError as error:
            raise _Stopped(error.code, error.message) from None

    async def _record(self, number: int, counted: Counted, line: bytes) -> None:
        """Raises _Stopped where there is no room, LeaseLost."""
        backoff = Backoff(_FIRST_WAIT_S, _LONGEST_WAIT_S)
        while True:
            try:
                has_room = await self._batches.record(self._held, number, counted, line)
                break
            except BusUnavailable:  # the answer is here, and soon may be nowhere else
                await backoff.wait()
        if not has_room:
            message = f"no room for a result of {len(line)} bytes (VISCPM_FILE_BYTES, VISCPM_TENANT_FILE_BYTES)"
            raise _Stopped(StorageFull.code, message)
        self._recorded.add(number)
        self._runner.metrics.count("batch_lines_total", outcome=counted)

    async def _end(self) -> None:
        """With a line for each request that was not executed."""
        loop = asyncio.get_running_loop()
        renewed_s = loop.time()
        if self._ends_as in _UNANSWERED:
            code, message = _UNANSWERED[self._ends_as]
            async for number, line in self._open_lines():
                told = unanswered_line(self._result_id(number), line.custom_id, code, message)
                await self._record(number, "failed", told)
                if loop.time() - renewed_s > self._renew_s:
                    await self._batches.renew(self._held)
                    renewed_s = loop.time()
        await self._batches.end(self._held, self._ends_as)

    def _key(self, number: int) -> str:
        """The line's Idempotency-Key."""
        return f"{self._held.request.id}:{number}"

    def _result_id(self, number: int) -> str:
        return f"batch_req_{self._held.request.id.removeprefix('batch_')}_{number}"
