"""What Redis keeps of one job, as both ends of the queue read and write it."""

from collections.abc import Sequence
from typing import Literal

import msgspec

from models.jobs import Kind
from service.core.errors import Cancelled, status_of

State = Literal["reserved", "queued", "running", "generated", "done", "refused", "failed", "cancelled"]
Priority = Literal["interactive", "batch"]
EndState = Literal["done", "refused", "failed", "cancelled"]

RECORD_FIELDS = (
    "kind",
    "state",
    "tenant",
    "owner",
    "intent",
    "ending",
    "deliveries",
    "created_ms",
    "queued_ms",
    "started_ms",
    "generated_ms",
    "ended_ms",
    "deadline_ms",
)
END_STATES: tuple[EndState, ...] = ("done", "refused", "failed", "cancelled")


class Ending(msgspec.Struct, frozen=True, omit_defaults=True):
    """The one ending of a job. `body` is the API's answer as msgpack, already screened.

    `told` is what its route told of it first (ChatIntent), for who asks for the same again.
    """

    state: EndState
    code: str = ""
    message: str = ""
    body: bytes = b""
    told: bytes = b""


class TurnAppend(msgspec.Struct, frozen=True):
    """A conversation's turn, written in the same atomic step as the ending `done`, and only if that step wins.

    `conversation` is `tenant:id` (Keys.conversation). The job of a new one (`is_new`), or of one that has no picture,
    leaves it its picture's pixels. One that was not new and was deleted or expired meanwhile stays deleted, and the
    turn is dropped. With `replaces_last` the turn takes the last one's place.
    """

    conversation: str
    turn: bytes
    ttl_s: int
    max_turns: int
    is_new: bool = False
    replaces_last: bool = False
    fields: dict[str, bytes] = {}  # set in the hash along with the turn


class UsageAppend(msgspec.Struct, frozen=True):
    """What a job has used of its API key, counted in the same atomic step as its ending. `counts`: encode_usage."""

    key_id: str
    counts: bytes


class JobRecord(msgspec.Struct, frozen=True):
    """A job as Redis knows it. Times are milliseconds of the server's clock; 0: not yet.

    `intent`, as it was submitted, is there until the job has ended. The unscreened result is not told here: whoever
    finalizes it takes it with its lease (ResultClaim).
    """

    kind: Kind
    state: State
    tenant: str = ""
    owner: str = ""
    intent: bytes = b""
    ending: Ending | None = None
    deliveries: int = 0
    created_ms: int = 0
    queued_ms: int = 0
    started_ms: int = 0
    generated_ms: int = 0
    ended_ms: int = 0
    deadline_ms: int = 0


class ResultClaim(msgspec.Struct, frozen=True):
    """A generated job that this process may finalize now.

    `generated` is the worker's encoded last event, unscreened; `left_s` the time until the job's deadline, 0 past it.
    """

    intent: bytes
    generated: bytes
    left_s: float


class SweepCounts(msgspec.Struct):
    """What one sweep ended: slots whose job never came, jobs past their deadline, slots without a record.

    And jobs whose model has no worker left.
    """

    expired: int = 0
    overdue: int = 0
    lost: int = 0
    unserved: int = 0


def queue_of(kind: Kind, priority: Priority = "interactive") -> str:
    """Name of the queue that a job waits in (Keys.jobs)."""
    return kind if priority == "interactive" else f"{kind}:batch"


def queues_of(kind: Kind) -> tuple[str, ...]:
    """All that a kind has: the first is of interactive jobs. Screenings are waited for, so they are never batches."""
    return (kind,) if kind == "safety" else (queue_of(kind), queue_of(kind, "batch"))


def error_ending(code: str, message: str) -> Ending:
    """How an error ends its job: `refused` where the request is at fault (4xx), `failed` where the service is."""
    status = status_of(code)
    if status == Cancelled.status:
        return Ending("cancelled", code, message)
    return Ending("refused" if 400 <= status < 500 else "failed", code, message)


def encode_ending(ending: Ending) -> bytes:
    return _encoder.encode(ending)


def decode_ending(data: bytes) -> Ending:
    return _ending_decoder.decode(data)


def read_record(values: Sequence[bytes | None]) -> JobRecord | None:
    """From the values of RECORD_FIELDS in `job:{id}`; None: there is no such job."""
    fields = {name: value for name, value in zip(RECORD_FIELDS, values, strict=True) if value is not None}
    if not fields:
        return None

    def integer(name: str) -> int:
        return int(fields.get(name, b"0"))

    ending = fields.get("ending")
    return JobRecord(
        kind=KINDS_OF[fields["kind"]],
        state=STATES_OF[fields["state"]],
        tenant=fields.get("tenant", b"").decode(),
        owner=fields.get("owner", b"").decode(),
        intent=fields.get("intent", b""),
        ending=None if ending is None else decode_ending(ending),
        deliveries=integer("deliveries"),
        created_ms=integer("created_ms"),
        queued_ms=integer("queued_ms"),
        started_ms=integer("started_ms"),
        generated_ms=integer("generated_ms"),
        ended_ms=integer("ended_ms"),
        deadline_ms=integer("deadline_ms"),
    )


KINDS_OF: dict[bytes, Kind] = {b"chat": "chat", b"paint": "paint", b"safety": "safety"}
STATES_OF: dict[bytes, State] = {
    b"reserved": "reserved",
    b"queued": "queued",
    b"running": "running",
    b"generated": "generated",
    b"done": "done",
    b"refused": "refused",
    b"failed": "failed",
    b"cancelled": "cancelled",
}
_encoder = msgspec.msgpack.Encoder()
_ending_decoder = msgspec.msgpack.Decoder(Ending)
