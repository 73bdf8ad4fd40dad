"""Batches in Redis: what was asked, what has come of it, and who works on it now.

A batch is worked on by the one API process that has its lease. Each lease has a token, and a line's result is written
once, in one step with its count, by who has the latest one: what a process that lost its lease says is not heard.
"""

import secrets
from typing import Literal, NamedTuple

import msgspec

from service.batches.files import FILE_BYTES
from service.batches.lines import Endpoint, LineError, decode_errors, encode_errors
from service.batches.paging import Page, read_page
from service.core.errors import BatchNotFound, FileNotFound, InvalidRequest, RateLimited
from service.core.settings import Settings
from service.redis.connection import RedisConnection, RedisServers
from service.redis.keys import Keys

Status = Literal["failed", "in_progress", "completed", "expired", "cancelling", "cancelled"]
EndStatus = Literal["failed", "completed", "expired", "cancelled"]
Counted = Literal["completed", "failed"]

WINDOW_S = 86_400  # OpenAI's only one
_MAX_BATCHES = 1000  # of a tenant, those that have ended and are kept included
_TIMES = ("in_progress", "completed", "failed", "expired", "cancelling", "cancelled")


class BatchRequest(msgspec.Struct, frozen=True):
    """What was asked, and by whom; `key_id` is empty where no API key is asked for."""

    id: str
    tenant: str
    key_id: str
    endpoint: Endpoint
    input_file_id: str
    output_file_id: str
    error_file_id: str
    metadata: dict[str, str] | None = None


class Batch(NamedTuple):
    """A batch as it is now. Times are Unix seconds; `times` are those at which it got a status."""

    request: BatchRequest
    status: Status
    total: int
    completed: int
    failed: int
    errors: list[LineError]
    created: int
    expires: int
    times: dict[str, int]


class HeldBatch(NamedTuple):
    """A batch under this process' lease; `done` has a bit for each line that has a result."""

    request: BatchRequest
    token: str
    done: bytes

    def is_done(self, number: int) -> bool:
        """Whether the line at `number`, from 0 on, had its result when the batch was taken."""
        return number // 8 < len(self.done) and bool(self.done[number // 8] & (0x80 >> number % 8))


class LeaseState(NamedTuple):
    """What renewing the lease told."""

    status: Status
    left_s: float
    num_waiting: int  # batches that nobody works on


class LeaseLost(Exception):
    """Another process works on the batch, or it is over."""


class BatchStore:
    """Every call raises BusUnavailable where Redis does not serve it."""

    def __init__(self, redis: RedisServers, settings: Settings) -> None:
        self._connection = RedisConnection(redis)
        self._keys = Keys(settings.redis_prefix)
        self._settings = settings
        self._lease_ms = int(settings.lease_s * 1000)
        self._kept_ms = settings.file_ttl_s * 1000

    async def close(self) -> None:
        await self._connection.close()

    async def create(
        self,
        tenant: str,
        key_id: str,
        endpoint: Endpoint,
        input_file_id: str,
        num_requests: int,
        errors: list[LineError],
        metadata: dict[str, str] | None = None,
    ) -> Batch:
        """A new batch; with `errors` one that has failed already. Raises FileNotFound, RateLimited."""
        token = secrets.token_urlsafe(18)
        outputs = f"file-{token}-output", f"file-{token}-errors"
        request = BatchRequest(f"batch_{token}", tenant, key_id, endpoint, input_file_id, *outputs, metadata)
        keys, of_input = self._keys.of_batch(tenant, request.id), self._keys.of_file(tenant, input_file_id)
        found, *_ = await self._connection.transition(
            "batch_create",
            (*keys, self._keys.tenant_batches(tenant), of_input[3], of_input[0]),
            f"{tenant}:{request.id}",
            request.id,
            f"{tenant}:{input_file_id}",
            msgspec.msgpack.encode(request),
            "failed" if errors else "in_progress",
            encode_errors(errors),
            num_requests,
            WINDOW_S * 1000,
            self._kept_ms,
            _MAX_BATCHES,
        )
        if found == b"gone":
            raise FileNotFound(f"no file {input_file_id[:64]!r}: it was deleted, or has expired")
        if found == b"many":
            raise RateLimited(f"there are {_MAX_BATCHES} batches already, which is all that are kept", retry_after_s=60)
        return await self.get(tenant, request.id)

    async def get(self, tenant: str, batch_id: str) -> Batch:
        """Raises BatchNotFound."""
        batch = await self._read(tenant, batch_id)
        if batch is None:
            raise BatchNotFound(f"no batch {batch_id[:64]!r}: it never was, or ended longer ago than it is kept")
        return batch

    async def page(self, tenant: str, limit: int, after: str) -> Page[Batch]:
        """Newest first, those after the batch `after`; empty: from the newest on. Raises BatchNotFound."""
        ids, has_more = await read_page(self._connection, self._keys.tenant_batches(tenant), limit, after)
        if ids is None:
            raise BatchNotFound(f"after: no batch {after[:64]!r}: it never was, or it is not listed any more")
        found = [await self._read(tenant, batch_id) for batch_id in ids]
        return Page([one for one in found if one is not None], has_more, ids[-1] if ids else None)

    async def cancel(self, tenant: str, batch_id: str) -> Batch:
        """Nothing of it is begun any more. Raises BatchNotFound, InvalidRequest for one that ended."""
        await self.get(tenant, batch_id)
        status = await self._connection.transition("batch_cancel", self._keys.of_batch(tenant, batch_id))
        if status not in (b"in_progress", b"cancelling"):
            told = status.decode() if status else "gone"
            raise InvalidRequest(f"batch_id: the batch is {told}; only one in progress can be cancelled")
        return await self.get(tenant, batch_id)

    async def take(self) -> HeldBatch | None:
        """The batch that waits longest, under a lease from now on; None: none waits."""
        for member in await self._connection.transition("batch_due", (self._keys.batches,)):
            tenant, _, batch_id = member.decode().partition(":")
            keys = self._keys.of_batch(tenant, batch_id)
            taken = await self._connection.transition("batch_take", keys, member, self._lease_ms)
            if taken is not None:
                encoded = await self._connection.send("HGET", keys[1], "record")
                return HeldBatch(_requests.decode(encoded), taken[0].decode(), taken[1])
        return None

    async def renew(self, held: HeldBatch) -> LeaseState:
        """Raises LeaseLost."""
        return await self._renew(held, self._lease_ms)

    async def give_up(self, held: HeldBatch) -> None:
        """Leave the batch to others, behind those that wait already. Raises LeaseLost."""
        await self._renew(held, 0)

    async def record(self, held: HeldBatch, number: int, counted: Counted, line: bytes) -> bool:
        """Write a line's result, unless it has one. False: there is no room for it. Raises LeaseLost."""
        tenant = held.request.tenant
        file_id = held.request.output_file_id if counted == "completed" else held.request.error_file_id
        found = await self._connection.transition(
            "batch_record",
            (*self._keys.of_batch(tenant, held.request.id), *self._keys.of_file(tenant, file_id)),
            held.token,
            number,
            counted,
            line,
            f"{tenant}:{file_id}",
            tenant,
            file_id,
            f"{held.request.id}_{'output' if counted == 'completed' else 'error'}.jsonl",
            FILE_BYTES,
            self._settings.file_bytes,
            self._settings.tenant_file_bytes,
            self._kept_ms,
        )
        if found == b"lost":
            raise LeaseLost
        return bool(found != b"full")

    async def end(self, held: HeldBatch, status: EndStatus, errors: list[LineError] | None = None) -> None:
        """Raises LeaseLost."""
        request = held.request
        ended = await self._connection.transition(
            "batch_end",
            (
                *self._keys.of_batch(request.tenant, request.id),
                self._keys.of_file(request.tenant, request.input_file_id)[3],
            ),
            f"{request.tenant}:{request.id}",
            held.token,
            status,
            encode_errors(errors or []),
            self._kept_ms,
        )
        if not ended:
            raise LeaseLost

    async def _renew(self, held: HeldBatch, lease_ms: int) -> LeaseState:
        request = held.request
        keys = self._keys.of_batch(request.tenant, request.id)
        member = f"{request.tenant}:{request.id}"
        told = await self._connection.transition("batch_renew", keys, member, held.token, lease_ms)
        if told is None:
            raise LeaseLost
        return LeaseState(told[0].decode(), int(told[1]) / 1000, told[2])

    async def _read(self, tenant: str, batch_id: str) -> Batch | None:
        stored = await self._connection.send("HGETALL", self._keys.of_batch(tenant, batch_id)[1])
        if b"record" not in stored:
            return None
        times = {name: int(stored[key]) // 1000 for name in _TIMES if (key := f"{name}_ms".encode()) in stored}
        return Batch(
            request=_requests.decode(stored[b"record"]),
            status=stored[b"status"].decode(),
            total=int(stored[b"total"]),
            completed=int(stored.get(b"completed", 0)),
            failed=int(stored.get(b"failed", 0)),
            errors=decode_errors(stored[b"errors"]),
            created=int(stored[b"created_ms"]) // 1000,
            expires=int(stored[b"expires_ms"]) // 1000,
            times=times,
        )


_requests: msgspec.msgpack.Decoder[BatchRequest] = msgspec.msgpack.Decoder(BatchRequest)
