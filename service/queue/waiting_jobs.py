"""Which jobs a worker takes next: interactive ones first, and a batch one after every few of them.

Each kind has a stream for either priority. So batch jobs wait while others come, and never for good.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

from redis.exceptions import ResponseError

from models.jobs import Kind
from service.queue.record import queues_of
from service.redis.connection import BlockingReader, RedisConnection
from service.redis.keys import Keys

_GROUP = "workers"
_IN_A_ROW = 4  # interactive jobs that are taken while batch jobs wait


class Entry(NamedTuple):
    """A job in the stream of a queue; `fields` as `submit` writes them (transitions.lua)."""

    queue: str
    id: bytes
    fields: list[bytes]


class WaitingJobs:
    """Of one kind, for one consumer. Calls raise BusUnavailable when Redis does not serve them."""

    def __init__(
        self, reader: BlockingReader, connection: RedisConnection, keys: Keys, kind: Kind, consumer: str
    ) -> None:
        self._reader = reader
        self._connection = connection
        self._keys = keys
        self._consumer = consumer
        self.queues = queues_of(kind)  # the interactive one, then the one of batches if there is one
        self._in_a_row = 0
        self._may_have_batch = len(self.queues) > 1  # until none was found
        self._left: list[Entry] = []  # read beyond what there was room for

    async def take(self, room: int, block_s: float, is_idle: bool = False) -> list[Entry]:
        """Up to `room` jobs that nobody had yet, waiting up to `block_s` for the first.

        Args:
            is_idle: the worker has no other job.
        """
        try:
            # An idle worker asks once for the next job, whichever it is
            taken = [] if is_idle and not self._left and not self._may_have_batch else await self._there_are(room)
            taken = taken or await self._read(1, self.queues, block_s)
        except ResponseError as error:
            if not str(error).startswith("NOGROUP"):
                raise
            await self._create_groups()  # a new server, or one that lost its data
            return []
        self._left += taken[room:]
        for entry in taken[:room]:
            self._in_a_row = self._in_a_row + 1 if entry.queue == self.queues[0] else 0
        self._may_have_batch = self._may_have_batch or any(entry.queue != self.queues[0] for entry in taken)
        return taken[:room]

    async def take_over(self, lease_ms: int, queue: str, cursor: bytes | str) -> tuple[bytes, list[Entry]]:
        """One job whose lease ran out or that was given back, at most; and where to go on, `0-0` at the end."""
        try:
            reply = await self._connection.send(
                "XAUTOCLAIM", self._keys.jobs(queue), _GROUP, self._consumer, lease_ms, cursor, "COUNT", 1
            )
        except ResponseError as error:
            if not str(error).startswith("NOGROUP"):
                raise
            await self._create_groups()
            return b"0-0", []
        entries = _entries(queue, reply[1])
        taken = {entry.id for entry in entries}
        self._left = [entry for entry in self._left if entry.id not in taken]
        return reply[0], entries

    async def _there_are(self, room: int) -> list[Entry]:
        """Those that wait already."""
        interactive, *batch = self.queues
        taken: list[Entry] = []
        if batch and self._in_a_row >= _IN_A_ROW:
            self._in_a_row = 0
            taken = await self._next(1, batch[0])
        if len(taken) < room:
            taken += await self._next(room - len(taken), interactive)
        if batch and not taken and (self._left or self._may_have_batch):
            taken = await self._next(room, batch[0])
            self._may_have_batch = bool(taken)
        return taken

    async def _next(self, count: int, queue: str) -> list[Entry]:
        """Of one queue, what was left first."""
        own = [entry for entry in self._left if entry.queue == queue][:count]
        self._left = [entry for entry in self._left if entry not in own]
        return own + (await self._read(count - len(own), [queue]) if len(own) < count else [])

    async def _read(self, count: int, queues: Iterable[str], block_s: float = 0.0) -> list[Entry]:
        streams = {self._keys.jobs(queue).encode(): queue for queue in queues}
        block = ("BLOCK", int(block_s * 1000)) if block_s else ()
        command = ("XREADGROUP", "GROUP", _GROUP, self._consumer, "COUNT", count, *block, "STREAMS", *streams)
        reply: dict[bytes, Any] = await self._reader.read(*command, *[">"] * len(streams), block_s=block_s) or {}
        return [entry for stream, queue in streams.items() for entry in _entries(queue, reply.get(stream, ()))]

    async def _create_groups(self) -> None:
        for queue in self.queues:
            try:
                await self._connection.send("XGROUP", "CREATE", self._keys.jobs(queue), _GROUP, "0", "MKSTREAM")
            except ResponseError as error:
                if not str(error).startswith("BUSYGROUP"):
                    raise


def _entries(queue: str, read: Iterable[Any]) -> list[Entry]:
    return [Entry(queue, entry, fields) for entry, fields in read if fields is not None]
