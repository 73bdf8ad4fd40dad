"""Tells whoever asked for it of ended jobs, at least once: signed, and again with growing waits until it is accepted.

What is sent is what `GET /jobs/{id}` answers, so nothing that the gate has not released. Every API process takes what
is due. One that dies with a try leaves its lease behind, and after it the try is another process'; so a receiver may be
told twice, with the same `webhook-id`.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from service.core.errors import ServiceError
from service.core.metrics import Metrics
from service.core.settings import Settings
from service.core.tasks import TaskSupervisor, stop_tasks
from service.webhooks.pending import PendingWebhooks, WebhookTry
from service.webhooks.sender import WebhookSender
from service.webhooks.signing import Signer

_log = logging.getLogger(__name__)

_MAX_TRIES_AT_ONCE = 32  # in one process; each holds an answer in memory
_GONE = 410  # of a receiver that wants to hear no more


class WebhookDelivery:
    """One for each API process.

    Args:
        told: the body for a job that has ended; None: it is forgotten.
    """

    def __init__(
        self,
        pending: PendingWebhooks,
        sender: WebhookSender,
        told: Callable[[str], Awaitable[bytes | None]],
        settings: Settings,
        metrics: Metrics,
        tasks: TaskSupervisor,
    ) -> None:
        self._pending = pending
        self._sender = sender
        self._told = told
        self._settings = settings
        self._signer = Signer(settings.webhook_secret)
        self._metrics = metrics
        self._tasks = tasks
        self._task: asyncio.Task[None] | None = None
        self._trying: set[asyncio.Task[Any]] = set()
        self._woken = asyncio.Event()

    def start(self) -> None:
        self._task = self._tasks.start("webhooks", self._run)

    async def close(self) -> None:
        """Tries under way are left to other processes."""
        await stop_tasks([*self._trying, *([] if self._task is None else [self._task])])
        self._sender.close()
        await self._pending.close()

    def wake(self) -> None:
        """A job may have ended just now."""
        self._woken.set()

    async def require_allowed(self, url: str) -> None:
        """As WebhookSender.require_allowed."""
        await self._sender.require_allowed(url)

    async def _run(self) -> None:
        while True:
            self._woken.clear()
            try:
                await self._begin_due()
            except ServiceError as error:  # Redis is away: the next round finds the same
                _log.debug("nobody is told of jobs: %s", error.message)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._settings.sweep_s * random.uniform(0.75, 1.25)):
                    await self._woken.wait()

    async def _begin_due(self) -> None:
        free = _MAX_TRIES_AT_ONCE - len(self._trying)
        for job_id in await self._pending.due(free) if free else ():
            made = await self._pending.take(job_id)
            if made is not None:
                task = self._tasks.spawn(self._try(made), f"webhook of job {job_id}")
                self._trying.add(task)
                task.add_done_callback(self._on_tried)

    def _on_tried(self, task: "asyncio.Task[Any]") -> None:
        self._trying.discard(task)
        self.wake()  # there is room for another one

    async def _try(self, made: WebhookTry) -> None:
        try:
            body = await self._told(made.job_id)
            if body is None:
                await self._pending.end(made)
                return
            headers = self._signer.headers(made.job_id, int(time.time()), body)
            got = await self._sender.post(made.url, body, headers)
            await self._settle(made, got)
        except ServiceError as error:  # Redis is away: the try's lease ends, and it is made again
            _log.warning("job %s: it is not known who was told of it: %s", made.job_id, error.message)

    async def _settle(self, made: WebhookTry, got: int | str) -> None:
        is_accepted = isinstance(got, int) and 200 <= got < 300
        is_over = is_accepted or got == _GONE or made.number >= self._settings.webhook_tries
        if is_over:
            outcome = "delivered" if is_accepted else "failed"
            is_settled = await self._pending.end(made)
        else:
            outcome = "retried"
            wait_s = self._settings.webhook_wait_s(made.number) * random.uniform(0.9, 1.1)
            is_settled = await self._pending.again(made, wait_s)
        if is_settled:
            self._metrics.count("webhooks_total", outcome=outcome)
        if not is_accepted:  # no URL: it may hold what only its owner should know
            level = logging.WARNING if is_over else logging.INFO
            tries = f"try {made.number} of {self._settings.webhook_tries}"
            _log.log(level, "job %s: its callback_url was not reached, %s: %s", made.job_id, tries, got)
