"""Inboxes: a stream for each API process, through which it hears of all jobs that it waits for."""

import asyncio
from collections.abc import Iterable

from service.queue.connection import RedisConnection
from service.queue.keys import Keys

MAX_INLINE_BYTES = 4096  # a larger event goes into an inbox as a pointer, and is read from the job's record
_LENGTH = 16384


async def send_to_inboxes(
    connection: RedisConnection, keys: Keys, processes: Iterable[str], job_id: str, position: bytes, payload: bytes
) -> None:
    """Tell API processes of an event that a transition could not tell them of: it was not handed their inboxes.

    Where Redis is away they find it later: who waits looks into the record after a while.
    """
    data = payload if len(payload) <= MAX_INLINE_BYTES else b""
    fields = ("j", job_id, "p", position, "d", data)
    sent = [
        connection.send("XADD", keys.inbox(process), "NOMKSTREAM", "MAXLEN", "~", _LENGTH, "*", *fields)
        for process in processes
    ]
    await asyncio.gather(*sent, return_exceptions=True)
