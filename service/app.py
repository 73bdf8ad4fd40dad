"""`create_app`: the API's only wiring. Lifespan, middleware, routers, error handler."""

import logging
import os
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi import FastAPI
from starlette.middleware import Middleware

from safety.gate import Gate
from safety.verdict import OpenScreens, Screens, Verdict
from service import errors
from service.bus import Bus
from service.completion import Completion
from service.conversations import Conversations
from service.documentation import describe
from service.images import ImageIntake
from service.labels import Labels
from service.link import open_redis
from service.malloc import bound_allocator
from service.metrics import Metrics
from service.middleware import BodyLimits, RequestContext
from service.registry import Registry
from service.routes import chat, conversations, health, jobs, metrics, paint
from service.settings import Settings
from service.state import ApiState
from service.sweeper import Sweeper

_log = logging.getLogger(__name__)

VERSION = "0.1.0"
_DESCRIPTION = "Ask VisCPM-Chat about pictures and have VisCPM-Paint paint them, in Chinese and English."


def create_app(settings: Settings, screens: Screens | None = None) -> FastAPI:
    """The API over the Redis that the settings name.

    Args:
        screens: of the safety gate; absent: open ones, which the log and /health/ready tell.
    """
    api_metrics = Metrics("api")

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        bound_allocator()
        async with AsyncExitStack() as stack:
            app.state.api = await _start(stack, settings, screens or OpenScreens(), api_metrics)
            yield

    app = FastAPI(
        title="VisCPM service",
        version=VERSION,
        description=_DESCRIPTION,
        lifespan=lifespan,
        middleware=[
            Middleware(RequestContext, metrics=api_metrics),
            Middleware(BodyLimits, max_body_bytes=settings.max_body_bytes, body_timeout_s=settings.body_timeout_s),
        ],
        docs_url=None,  # the page would load scripts from elsewhere
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
    )
    for module in (chat, paint, conversations, jobs, health, metrics):
        app.include_router(module.router)
    errors.install(app)
    app.openapi = lambda: describe(app)  # type: ignore[method-assign]
    return app


async def _start(stack: AsyncExitStack, settings: Settings, screens: Screens, api_metrics: Metrics) -> ApiState:
    """Everything that runs beside the requests; closed in the reverse order by `stack`."""
    redis = open_redis(settings.redis_url)
    stack.push_async_callback(redis.aclose)
    images = ImageIntake(settings, api_metrics)
    stack.callback(images.close)
    labels = Labels(settings, f"VisCPM service {VERSION}")
    stack.callback(labels.close)
    conversations_store = Conversations(redis, settings)
    stack.push_async_callback(conversations_store.close)
    process_id = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    bus = Bus(redis, settings, process_id, api_metrics)
    await bus.start()
    stack.push_async_callback(bus.close)

    def count(verdict: Verdict) -> None:
        api_metrics.count("safety_decisions_total", stage=verdict.stage, verdict=verdict.decision)

    gate = Gate(bus, screens, Completion(conversations_store, labels), count)
    if gate.is_open:
        _log.warning("there are no safety screens: everything passes")
    registry = Registry(redis, settings)
    await registry.start()
    stack.push_async_callback(registry.close)
    sweeper = Sweeper(bus.sweep, gate, settings.sweep_s)
    sweeper.start()
    stack.push_async_callback(sweeper.close)
    state = ApiState(settings, api_metrics, gate, registry, conversations_store, images, labels)
    stack.push_async_callback(state.close)
    return state
