"""A slot on its way, and what its API key has used.

It is asked for in one transition with its job, or alone where somebody waits for it or the job takes a while.
"""

import asyncio
from collections.abc import Generator, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

from models.jobs import Kind
from service.access.api_keys import KeyLimits
from service.access.limits import KeyUse
from service.core.errors import QueueFull
from service.redis.connection import RedisConnection
from service.redis.server_connection import Argument

_ALONE_AFTER_S = 0.002


class Asking(Protocol):
    """The producer, which asks for it."""

    def ask_for_slot(self, job_id: str) -> None: ...

    def forget(self, job_id: str) -> None: ...


class Reservation:
    """A slot that is asked for. Awaiting it gives nothing, or raises QueueFull, RateLimited, BusUnavailable.

    Who needs the slot before any work on the job awaits it. Else it is asked for together with the job, in one
    transition, or alone where the job takes a while.
    """

    def __init__(
        self,
        producer: Asking,
        num_slots: int,
        kind: Kind,
        job_id: str,
        limits: KeyLimits,
        reply: "asyncio.Future[Any]",
    ) -> None:
        self._producer = producer
        self._num_slots = num_slots
        self._kind = kind
        self._job_id = job_id
        self._limits = limits
        self._reply = reply

    @property
    def key_use(self) -> KeyUse | None:
        """What the API key has used, once that is known."""
        reply = self._reply
        if not reply.done() or reply.cancelled() or reply.exception() is not None or isinstance(reply.result(), int):
            return None
        return key_use(self._limits, reply.result()[2])

    def __await__(self) -> Generator[Any, None, None]:
        self._producer.ask_for_slot(self._job_id)
        # Shielded: whoever stops waiting must not take the reply from others
        reply = yield from asyncio.shield(self._reply).__await__()
        is_granted, reason = (reply, b"") if isinstance(reply, int) else reply[:2]
        if not is_granted:
            self._producer.forget(self._job_id)
            if reason:
                raise key_use(self._limits, reply[2]).refusal(reason.decode())
            raise QueueFull(f"all {self._num_slots} slots of {self._kind} are taken{self._share()}, try again later")

    def _share(self) -> str:
        """What a key's tenant has of the slots."""
        reply = self._reply.result()
        if isinstance(reply, int):
            return ""
        own, share, num_tenants = reply[3:]
        if num_tenants == 1:
            return ""
        return f", {own} of them by this tenant, whose share among {num_tenants} tenants is {share}"


class _SlotRequest(NamedTuple):
    """Not sent yet."""

    keys: Sequence[str]
    arguments: Sequence[Argument]
    reply: "asyncio.Future[Any]"
    sending: asyncio.TimerHandle


class SlotRequests:
    """Of one process, by job id."""

    def __init__(self, connection: RedisConnection) -> None:
        self._connection = connection
        self._unsent: dict[str, _SlotRequest] = {}

    def ask(self, job_id: str, keys: Sequence[str], arguments: Sequence[Argument]) -> "asyncio.Future[Any]":
        """Ask soon; the future is of what `reserve` (transitions.lua) replies."""
        loop = asyncio.get_running_loop()
        sending = loop.call_later(_ALONE_AFTER_S, self.send, job_id)
        request = self._unsent[job_id] = _SlotRequest(keys, arguments, loop.create_future(), sending)
        return request.reply

    def send(self, job_id: str) -> None:
        """Now, unless it is sent."""
        if (request := self._taken(job_id)) is not None:
            reply = self._connection.begin_transition("reserve", request.keys, *request.arguments)
            reply.add_done_callback(partial(_pass_on, request.reply))

    def send_with_job(self, job_id: str, arguments: Sequence[Argument]) -> "asyncio.Future[Any] | None":
        """Now, and the job with it. None: it is sent; else what both of `reserve` and `submit` reply, in a list.

        Args:
            arguments: of `submit`, after the job's id.
        """
        if (request := self._taken(job_id)) is None:
            return None
        both = self._connection.begin_transition("reserve_and_submit", request.keys, *request.arguments, *arguments)
        both.add_done_callback(partial(_pass_on, request.reply))
        return both

    def forget(self, job_id: str) -> None:
        """Nobody needs it any more."""
        if (request := self._taken(job_id)) is not None:
            request.reply.cancel()

    def _taken(self, job_id: str) -> _SlotRequest | None:
        request = self._unsent.pop(job_id, None)
        if request is not None:
            request.sending.cancel()
        return request


def key_use(limits: KeyLimits, used: list[int]) -> KeyUse:
    """As look_at_key tells it (transitions.lua)."""
    requests, tokens, jobs, left_ms = used
    return KeyUse(limits, requests, tokens, jobs, left_ms / 1000)


def _pass_on(reply: "asyncio.Future[Any]", answered: "asyncio.Future[Any]") -> None:
    """What became of a slot, to who asked for it."""
    if reply.done():
        return
    if answered.cancelled():
        reply.cancel()
    elif (error := answered.exception()) is not None:
        reply.set_exception(error)
        reply.exception()  # seen: who asked hears of it where the job is queued
    else:
        reply.set_result(answered.result()[0])
