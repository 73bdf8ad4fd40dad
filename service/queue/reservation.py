"""A slot that was asked for, and what its API key has used."""

import asyncio
from collections.abc import Generator
from typing import Any, Protocol

from models.jobs import Kind
from service.access.api_keys import KeyLimits
from service.access.limits import KeyUse
from service.core.errors import QueueFull


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


def key_use(limits: KeyLimits, used: list[int]) -> KeyUse:
    """As look_at_key tells it (transitions.lua)."""
    requests, tokens, jobs, left_ms = used
    return KeyUse(limits, requests, tokens, jobs, left_ms / 1000)
