"""Idempotency keys in Redis: the jobs that answer each, for its tenant, as long as that job can be read."""

import hashlib
from typing import NamedTuple

from models.jobs import Model
from service.core.errors import IdempotencyKeyInUse, IdempotencyKeyReused
from service.core.settings import Settings
from service.redis.connection import RedisConnection, RedisServers
from service.redis.keys import Keys

_TRIES = 5
_SPARE_S = 60  # beyond what a job may take, so that its key outlives it


class EarlierJob(NamedTuple):
    """What answers the key already."""

    job_id: str
    has_ended: bool


def job_ids_of(first: str, num_answers: int) -> list[str]:
    """The jobs of one request, whose first one names the others: so a key that leads to it leads to all."""
    return [first, *(f"{first}-{number}" for number in range(2, num_answers + 1))]


class IdempotencyKeys:
    """Every call raises BusUnavailable where Redis does not serve it."""

    def __init__(self, redis: RedisServers, settings: Settings) -> None:
        self._connection = RedisConnection(redis)
        self._keys = Keys(settings.redis_prefix)
        self._settings = settings

    async def close(self) -> None:
        await self._connection.close()

    async def claim(
        self,
        tenant: str,
        key: str,
        fingerprint: bytes,
        job_id: str,
        kind: Model,
        is_awaited: bool = True,
        num_answers: int = 1,
    ) -> EarlierJob | None:
        """The job of an earlier request with this key; None: `job_id` has the key from now on.

        Args:
            fingerprint: of the request: the same for the same one alone.
            is_awaited: the request wants an answer, and not to be told which job will give it.
            num_answers: of the request, each of which is a job (`job_ids_of`).

        Raises IdempotencyKeyReused, and IdempotencyKeyInUse where the earlier one has no answer yet.
        """
        settings, holder = self._settings, ""
        claim_ms = int(settings.slot_lease_s * 1000)
        kept_s = settings.slot_lease_s + settings.deadline_s(kind) + settings.retained_s(kind) + _SPARE_S
        for _ in range(_TRIES):
            of_holder = map(self._keys.job, job_ids_of(holder, num_answers)) if holder else ()
            found, *held_by = await self._connection.transition(
                "idempotency_claim",
                (self._record(tenant, key), *of_holder),
                fingerprint,
                job_id,
                claim_ms,
                int(kept_s * 1000),
                holder,
            )
            if found == b"new":
                return None
            if found == b"other":
                raise IdempotencyKeyReused(
                    f"Idempotency-Key: {key[:64]!r} was used for another request; a new request needs a new key"
                )
            holder = held_by[0].decode()
            if found == b"ended" or (found == b"running" and not is_awaited):
                return EarlierJob(holder, found == b"ended")
            if found == b"running":
                break
        raise IdempotencyKeyInUse(
            f"Idempotency-Key: the request with {key[:64]!r} is still being answered; ask again for its answer"
        )

    async def job_of(self, tenant: str, key: str) -> str | None:
        """The job that answers the key, or will; None: no request has come with it."""
        found = await self._connection.send("HGET", self._record(tenant, key), "job")
        return None if found is None else found.decode()

    async def release(self, tenant: str, key: str, job_id: str) -> None:
        """Of a request that was refused before its job began: the next one with the key begins anew."""
        await self._connection.transition("idempotency_release", (self._record(tenant, key),), job_id)

    def _record(self, tenant: str, key: str) -> str:
        return self._keys.idempotency(tenant, hashlib.sha256(key.encode()).hexdigest())
