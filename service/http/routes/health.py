"""Is the process alive, can it serve: in our own form, and in KServe's (CONVENTIONS §6)."""

from importlib.metadata import PackageNotFoundError, version
from typing import Any, get_args

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from models.jobs import Kind
from service.core.errors import ModelNotFound
from service.http.dependencies import ApiState, state_of
from service.http.openapi import documented
from service.queue.heartbeat import LiveWorker

router = APIRouter(tags=["health"])

_SERVER = "viscpm-service"


@router.get(
    "/health/live", summary="The process answers", **documented(None, plain="object", told_alike=(503,), access="open")
)
async def live(request: Request) -> Response:
    """200 while the process runs, whatever else is down; 503 where it has to be started again, and ends."""
    if (failed := state_of(request).tasks.failed) is not None:
        return Response(msgspec.json.encode({"status": "broken", "task": failed}), 503, media_type="application/json")
    return Response(b'{"status":"live"}', media_type="application/json")


@router.get(
    "/health/ready", summary="Jobs can be served", **documented(None, plain="object", told_alike=(503,), access="open")
)
async def ready(request: Request) -> Response:
    """200 when Redis answers and every model has a ready worker; else 503 naming the part that is down."""
    report = _report(state_of(request))
    status = 200 if report["status"] == "ready" else 503
    headers = {"retry-after": "1"} if status == 503 else {}
    return Response(msgspec.json.encode(report), status, headers, media_type="application/json")


@router.get("/v2", summary="KServe: server metadata", **documented(None, plain="object", access="open"))
async def v2() -> Response:
    return Response(
        msgspec.json.encode({"name": _SERVER, "version": _version(), "extensions": []}), media_type="application/json"
    )


@router.get("/v2/health/live", summary="KServe: live", **documented(None, empty=True, told_alike=(503,), access="open"))
async def v2_live(request: Request) -> Response:
    return Response(status_code=200 if state_of(request).tasks.failed is None else 503)


@router.get(
    "/v2/health/ready", summary="KServe: ready", **documented(None, empty=True, told_alike=(503,), access="open")
)
async def v2_ready(request: Request) -> Response:
    return Response(status_code=200 if _report(state_of(request))["status"] == "ready" else 503)


@router.get(
    "/v2/models/{model}",
    summary="KServe: model metadata",
    **documented(None, plain="object", statuses=(404,), access="open"),
)
async def v2_model(request: Request, model: str) -> Response:
    kind = _kind(request, model)
    described = state_of(request).registry.model(kind)
    metadata = {
        "name": kind,
        "versions": [] if described is None else [described.name],
        "platform": "pytorch",
        "inputs": [],
        "outputs": [],
    }
    return Response(msgspec.json.encode(metadata), media_type="application/json")


@router.get(
    "/v2/models/{model}/ready",
    summary="KServe: model ready",
    **documented(None, empty=True, statuses=(404,), told_alike=(503,), access="open"),
)
async def v2_model_ready(request: Request, model: str) -> Response:
    return Response(status_code=200 if state_of(request).registry.is_ready(_kind(request, model)) else 503)


def _report(state: ApiState) -> dict[str, Any]:
    registry = state.registry
    models = {kind: _model(state, kind) for kind in state.settings.models}
    down: list[str] = [kind for kind, model in models.items() if model["state"] != "ready"]
    safety: dict[str, Any] = {"screening": "off" if state.queue.is_open else "on"}
    if "safety" in state.settings.kinds:
        safety |= _model(state, "safety")
        down += ["safety"] if safety["state"] != "ready" else []
    if not registry.is_fresh:
        down.insert(0, "redis")
    if state.is_draining:
        down.insert(0, "api")
    return {
        "status": "unavailable" if down else "ready",
        "down": down,
        "draining": state.is_draining,
        "redis": "up" if registry.is_fresh else "down",
        "screens": "open" if state.queue.is_open else "closed",  # until 0.2: `safety.screening` says it
        "untrained": any(model["untrained"] for model in models.values()),
        "models": models,
        "safety": safety,
    }


def _model(state: ApiState, kind: Kind) -> dict[str, Any]:
    workers = state.registry.workers(kind)
    states = {worker.info.state for worker in workers}
    # the most able worker speaks for the model
    described = next((name for name in ("ready", "loading", "stalled", "draining") if name in states), "absent")
    model = state.registry.model(kind)
    return {
        "state": described if state.registry.is_fresh else "unknown",
        "name": None if model is None else model.name,
        "untrained": model is not None and model.untrained,
        "workers": [_worker(worker) for worker in workers],
    }


def _worker(worker: LiveWorker) -> dict[str, Any]:
    info = worker.info
    return {
        "id": info.worker_id,
        "state": info.state,
        "heartbeat_age_s": round(worker.age_s, 3),
        "jobs": info.jobs,
        "capacity": info.capacity,
        "running": info.load.running,
        "waiting": info.load.waiting + info.load.preempted,
        "kv_cache_usage_ratio": round(info.load.kv_blocks_used / max(info.load.kv_blocks, 1), 3),
        "device": "" if info.model is None else info.model.device,
        "quantization": "" if info.model is None else info.model.quantization,
        "device_turn": info.device_turn,
        "memory_bytes": info.gpu_used_bytes or info.resident_bytes,
    }


def _kind(request: Request, model: str) -> Kind:
    kinds: tuple[Kind, ...] = get_args(Kind)
    for kind in kinds:
        if kind == model and kind in state_of(request).settings.models:
            return kind
    raise ModelNotFound(f"no model {model[:60]!r} here; there are {', '.join(state_of(request).settings.models)}")


def _version() -> str:
    try:
        return version(_SERVER)
    except PackageNotFoundError:
        return "0"
