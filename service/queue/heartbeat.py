"""What workers tell of themselves, and how the API reads it."""

from typing import Literal

import msgspec

from models.jobs import EngineLoad, Kind, ModelDescription, decode_description, encode
from service.redis.connection import RedisConnection
from service.redis.keys import Keys

WorkerState = Literal["loading", "ready", "stalled", "draining"]
DeviceTurn = Literal["own", "held", "waiting", "away"]  # own: not shared; away: in no need of it

_FORGET_S = 3600.0  # a worker that has not been heard of for this long leaves the list


class WorkerInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """One heartbeat. Memory in bytes, 0 where it does not apply; `started_s` is Unix time, for people."""

    worker_id: str
    kind: Kind
    state: WorkerState
    host: str
    pid: int
    started_s: float
    model: ModelDescription | None = None  # None while loading
    jobs: int = 0
    capacity: int = 0  # how many more it would take
    load: EngineLoad = EngineLoad()
    step_age_s: float = 0.0  # how long the engine's current step has run; 0 between steps
    device_turn: DeviceTurn = "own"
    metrics_url: str = ""
    resident_bytes: int = 0
    gpu_used_bytes: int = 0
    gpu_reserved_bytes: int = 0
    gpu_free_bytes: int = 0


class LiveWorker(msgspec.Struct, frozen=True):
    """A heartbeat and its age by the server's clock."""

    info: WorkerInfo
    age_s: float


async def send_heartbeat(connection: RedisConnection, keys: Keys, info: WorkerInfo, expiry_s: float) -> None:
    """Raises BusUnavailable."""
    description = b"" if info.model is None else encode(info.model)
    data = _encoder.encode(info)
    names = (keys.workers, keys.heartbeats, keys.model(info.kind))
    await connection.transition("worker_beat", names, info.worker_id, data, int(expiry_s * 1000), description)


async def remove_heartbeat(connection: RedisConnection, keys: Keys, worker_id: str) -> None:
    """Raises BusUnavailable."""
    await connection.transition("worker_leave", (keys.workers, keys.heartbeats), worker_id)


async def live_workers(connection: RedisConnection, keys: Keys) -> list[LiveWorker]:
    """Workers whose heartbeat has not expired. Raises BusUnavailable."""
    beats = await connection.transition("workers", (keys.workers, keys.heartbeats), int(_FORGET_S * 1000))
    return [LiveWorker(_decoder.decode(data), age_ms / 1000) for data, age_ms in beats]


async def last_model(connection: RedisConnection, keys: Keys, kind: Kind) -> ModelDescription | None:
    """What the last worker of this kind served, also when none is alive. Raises BusUnavailable."""
    data = await connection.send("GET", keys.model(kind))
    return None if data is None else decode_description(data)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(WorkerInfo)
