"""Jobs as they are looked at from outside: where one is that has not ended, and which ones a tenant has."""

import asyncio
from typing import NamedTuple

from models.jobs import Kind
from service.core.errors import JobNotFound
from service.queue.record import KINDS_OF, STATES_OF, State
from service.redis.connection import RedisConnection
from service.redis.keys import Keys

_SAME_MOMENT = 64  # jobs of one tenant that began within a millisecond


class JobPlace(NamedTuple):
    """What Redis knows of a job that has not ended. `num_before` of one that waits: None where it is over a thousand.

    `run_s` is what jobs of its kind took lately, None where none was measured; `last_event` is encoded.
    """

    num_before: int | None
    num_in_work: int
    run_s: float | None
    now_ms: int
    last_event: bytes = b""


class ListedJob(NamedTuple):
    job_id: str
    kind: Kind
    state: State
    created_ms: int


class JobPage(NamedTuple):
    """Newest first. `last_id` is where the next page goes on; jobs whose retention is over are passed over."""

    jobs: list[ListedJob]
    has_more: bool
    last_id: str | None


async def read_place(connection: RedisConnection, keys: Keys, job_id: str, kind: Kind) -> JobPlace:
    """Raises BusUnavailable."""
    found = await connection.transition("place", keys.of_job(job_id), kind, job_id)
    before, in_work, run_ms, now_ms, last_event = found
    return JobPlace(None if before < 0 else before, in_work, int(run_ms) / 1000 if run_ms else None, now_ms, last_event)


async def read_page(connection: RedisConnection, keys: Keys, tenant: str, limit: int, after: str) -> JobPage:
    """Those after the job `after`; empty: from the newest on. Raises JobNotFound, BusUnavailable."""
    index, newest = keys.tenant_jobs(tenant), "+inf"
    if after:
        began_ms = await connection.send("ZSCORE", index, after)
        if began_ms is None:
            raise JobNotFound(f"after: no job {after[:64]!r}: it never was, or it is not listed any more")
        newest = str(int(began_ms))
    count = limit + 1 + (_SAME_MOMENT if after else 0)
    found = await connection.send("ZRANGE", index, newest, "-inf", "BYSCORE", "REV", "LIMIT", 0, count)
    ids = [job_id.decode() for job_id in found]
    if after in ids:
        ids = ids[ids.index(after) + 1 :]
    page = ids[:limit]
    records = await asyncio.gather(
        *(connection.send("HMGET", keys.job(job_id), "kind", "state", "created_ms") for job_id in page)
    )
    jobs = [
        ListedJob(job_id, KINDS_OF[kind], STATES_OF[state], int(created_ms))
        for job_id, (kind, state, created_ms) in zip(page, records, strict=True)
        if kind is not None
    ]
    return JobPage(jobs, len(ids) > limit, page[-1] if page else None)
