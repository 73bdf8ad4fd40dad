"""GET /metrics: the API processes of this tree and, for one-machine use, every live worker."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from service.core.errors import BusUnavailable
from service.core.process_memory import resident_bytes
from service.core.shared_metrics import sharing_pids
from service.http.dependencies import ApiState, state_of
from service.http.openapi import documented
from service.http.scrape import merge

router = APIRouter(tags=["metrics"])


@router.get("/metrics", summary="Prometheus metrics", **documented(None, text=True, access="open"))
async def metrics(request: Request, scope: Annotated[Literal["all", "api"], Query()] = "all") -> Response:
    """The Prometheus text format. Workers' samples carry the label `worker`.

    The API processes of one `viscpm serve` are shown as one: whichever answers tells what all of them counted.
    A Prometheus that scrapes each worker's own port asks the API for `?scope=api`, which leaves the workers out: then
    no sample is counted twice. `viscpm_queue_depth`, `viscpm_jobs` and `viscpm_worker_restarts_total` describe the
    shared state and are the same in every API process: aggregate them with `max`.
    """
    state = state_of(request)
    await _refresh(state)
    text = state.metrics.render().decode()
    if scope == "all":
        text = merge(text, await state.scraper.fetch(state.registry.workers()))
    return Response(text, headers={"content-type": CONTENT_TYPE_LATEST})


async def _refresh(state: ApiState) -> None:
    """Set the gauges that are read, not counted."""
    metrics, registry = state.metrics, state.registry
    metrics.set("process_resident_memory_bytes", sum(map(resident_bytes, sharing_pids())))
    metrics.set("redis_up", float(registry.is_fresh))
    metrics.forget("worker_heartbeat_age_seconds")
    for worker in registry.workers() if registry.is_fresh else ():  # better absent than old
        metrics.set("worker_heartbeat_age_seconds", worker.age_s, model=worker.info.kind, worker=worker.info.worker_id)
    try:
        shared = await registry.shared_state()
    except BusUnavailable:
        for name in ("queue_depth", "jobs", "worker_restarts_total"):
            metrics.forget(name)  # better absent than old
        return
    for kind in state.settings.kinds:
        metrics.set("queue_depth", shared.depth[kind], model=kind)
        metrics.set("worker_restarts_total", shared.restarts.get(kind, 0), model=kind)
        for name in ("accepted", "done", "refused", "failed", "cancelled"):
            metrics.set("jobs", shared.jobs.get((kind, name), 0), model=kind, state=name)
