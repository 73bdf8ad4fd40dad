"""`create_app`: the API's only wiring. Lifespan, middleware, routers, error handler."""

import logging
import os
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import Depends, FastAPI
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from safety.gate import Gate
from safety.verdict import OpenScreens, Screens
from service.access.key_store import KeyStore, KnownKeys
from service.access.usage import UsageBook
from service.access.wrong_keys import WrongKeys
from service.batches.batch_store import BatchStore
from service.batches.files import Files
from service.batches.runner import BatchRunner
from service.core.metrics import Metrics
from service.core.process_memory import bound_allocator
from service.core.settings import Settings
from service.core.tasks import TaskSupervisor
from service.http.access.authentication import authenticate
from service.http.addresses import EXPOSED, METHODS, Addresses
from service.http.dependencies import ApiState
from service.http.error_handlers import install_error_handlers
from service.http.middleware import BodyLimits, ContentDecoding, RequestContext
from service.http.model_aliases import ModelAliases
from service.http.openai.batch_requests import BatchRequests
from service.http.openapi import describe
from service.http.routes import a1111, chat, health, jobs, metrics, moderations, paint, usage
from service.http.routes.conversations import conversations, copies, regeneration
from service.http.routes.openai import batches, chat_completions, files, models, responses_api
from service.http.routes.openai import images as openai_images
from service.http.routes.page import page
from service.http.scrape import WorkerScraper
from service.image_input.intake import ImageIntake
from service.image_output.ai_labels import AILabels
from service.image_output.picture_links import PictureLinks
from service.jobs.audit import Audit
from service.jobs.conversations import Conversations
from service.jobs.finalizer import Finalizer
from service.jobs.gated_queue import GatedQueue
from service.jobs.idempotency import IdempotencyKeys
from service.jobs.screens import Rules, WorkerScreens
from service.jobs.sweeper import Sweeper
from service.jobs.worker_registry import WorkerRegistry
from service.page.static_files import StaticFiles
from service.queue.latest_paintings import LatestPaintings
from service.queue.producer import JobProducer
from service.queue.record import SweepCounts
from service.queue.verdict_cache import VerdictCache
from service.redis.connection import RedisConnection, RedisServers, open_redis

if TYPE_CHECKING:  # an HTTP client that most installations do without
    from service.webhooks.delivery import WebhookDelivery

_log = logging.getLogger(__name__)

VERSION = "0.1.0"
_DESCRIPTION = "Ask VisCPM-Chat about pictures and have VisCPM-Paint paint them, in Chinese and English."


def create_app(settings: Settings, screens: Screens | None = None) -> FastAPI:
    """The API over the Redis that the settings name.

    Args:
        screens: of the safety gate; absent: those that the settings name, or open ones where they say so.

    Raises:
        PolicyError, AuditUnwritable, CredentialsUnusable: the safety policy, the audit file or the key for content
            credentials is not usable.
    """
    api_metrics = Metrics("api")
    rules = Rules(settings) if screens is None and settings.safety == "on" else None
    audit = Audit(api_metrics, settings.safety_audit_file, settings.safety_audit_required)
    labels = AILabels(settings, f"VisCPM service {VERSION}")

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        bound_allocator()
        async with AsyncExitStack() as stack:
            app.state.api = state = await _start(stack, settings, rules or screens, labels, api_metrics, audit)
            sender = BatchRequests(app, state)
            runner = BatchRunner(state.batches, state.files, sender, settings, api_metrics, state.tasks)
            runner.start()
            stack.push_async_callback(runner.close)
            yield

    openai = (chat_completions, responses_api, openai_images, models, moderations, files, batches)
    of_conversations = (conversations, copies, regeneration)
    of_people = (page,) if settings.page == "on" else ()
    modules = (chat, paint, *openai, a1111, *of_conversations, jobs, usage, health, metrics, *of_people)
    known_routes = [route for module in modules for route in module.router.routes]
    addresses = Middleware(
        Addresses, routes=known_routes, root_path=settings.root_path, trusted=settings.trusted_proxies
    )
    app = FastAPI(
        title="VisCPM service",
        version=VERSION,
        description=_DESCRIPTION,
        lifespan=lifespan,
        dependencies=[] if settings.is_open else [Depends(authenticate)],
        middleware=[
            *_cross_origin(settings),
            Middleware(RequestContext, metrics=api_metrics),
            addresses,
            Middleware(ContentDecoding, max_body_bytes=settings.max_body_bytes),
            Middleware(BodyLimits, max_body_bytes=settings.max_body_bytes, body_timeout_s=settings.body_timeout_s),
        ],
        docs_url=None,  # ours (routes/page) loads nothing from elsewhere
        redoc_url=None,
        redirect_slashes=False,  # its redirects are built from Host; and Addresses leaves it none
        # Its logs would hold what exceptions quote of requests; and to look for who wants any costs each request
        telemetry={"tracing": False, "metrics": False, "logs": False},
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.page = StaticFiles() if of_people else None
    known_routes += app.routes  # its own: the document
    for module in modules:
        app.include_router(module.router)
    install_error_handlers(app)
    app.openapi = lambda: describe(app)  # type: ignore[method-assign]
    return app


def _cross_origin(settings: Settings) -> list[Middleware]:
    """What lets pages of other origins ask; outermost, so that every answer says it."""
    if not settings.cors_origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=METHODS,
            allow_headers=["*"],
            expose_headers=EXPOSED,
            max_age=7200,
        )
    ]


async def _start(
    stack: AsyncExitStack,
    settings: Settings,
    screens: Rules | Screens | None,
    labels: AILabels,
    api_metrics: Metrics,
    audit: Audit,
) -> ApiState:
    """Everything that runs beside the requests; closed in the reverse order by `stack`."""
    tasks = TaskSupervisor("api", api_metrics)
    redis = open_redis(settings)
    images = ImageIntake(settings, api_metrics)
    stack.callback(images.close)
    stack.callback(labels.close)
    conversations_store = Conversations(redis, settings, api_metrics)
    stack.push_async_callback(conversations_store.close)
    process_id = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    producer = JobProducer(redis, settings, process_id, api_metrics, tasks)
    await producer.start()
    stack.push_async_callback(producer.close)
    registry = WorkerRegistry(redis, settings, tasks)
    await registry.start()
    stack.push_async_callback(registry.close)
    if isinstance(screens, Rules):
        connection = RedisConnection(redis)
        stack.push_async_callback(connection.close)
        screens = WorkerScreens(screens, producer, VerdictCache(connection, settings), registry, settings, api_metrics)
        stack.push_async_callback(screens.close)
    stack.push_async_callback(audit.close)
    gate = Gate(screens or OpenScreens(), audit)
    if gate.is_open:
        _log.warning("THE SAFETY GATE IS OPEN: nothing is screened, in or out (VISCPM_SAFETY=off)")
    finalizer = Finalizer(producer, gate, conversations_store, labels, tasks)
    stack.push_async_callback(finalizer.close)

    async def sweep() -> SweepCounts:
        counts = await producer.sweep()
        for kind in registry.unserved():
            counts.unserved += await producer.fail_unserved(kind)
        return counts

    sweeper = Sweeper(sweep, finalizer.adopt_abandoned, conversations_store.make_room, settings.sweep_s, tasks)
    sweeper.start()
    stack.push_async_callback(sweeper.close)
    queue = GatedQueue(producer, gate, finalizer)
    key_store = KeyStore(redis, settings)
    stack.push_async_callback(key_store.close)
    known_keys = KnownKeys(key_store, settings)
    usage_book = UsageBook(redis, settings)
    stack.push_async_callback(usage_book.close)
    idempotency = IdempotencyKeys(redis, settings)
    stack.push_async_callback(idempotency.close)
    scraper = WorkerScraper()
    stack.push_async_callback(scraper.close)
    aliases = ModelAliases(settings.model_aliases, settings.models, registry)
    picture_links, latest_paintings = PictureLinks(redis, settings), LatestPaintings(redis, settings)
    stack.push_async_callback(picture_links.close)
    stack.push_async_callback(latest_paintings.close)
    files, batch_store = Files(redis, settings), BatchStore(redis, settings)
    stack.push_async_callback(files.close)
    stack.push_async_callback(batch_store.close)
    state = ApiState(
        settings,
        api_metrics,
        tasks,
        queue,
        registry,
        aliases,
        conversations_store,
        images,
        labels,
        picture_links,
        latest_paintings,
        scraper,
        known_keys,
        WrongKeys(),
        idempotency,
        usage_book,
        files,
        batch_store,
    )
    stack.push_async_callback(state.close)
    if settings.webhook_secret:
        state.webhooks = _webhooks(redis, state)
        state.webhooks.start()
        stack.push_async_callback(state.webhooks.close)
    return state


def _webhooks(redis: RedisServers, state: ApiState) -> "WebhookDelivery":
    from service.webhooks.delivery import WebhookDelivery
    from service.webhooks.pending import PendingWebhooks
    from service.webhooks.sender import WebhookSender

    settings = state.settings
    return WebhookDelivery(
        PendingWebhooks(redis, settings),
        WebhookSender(settings),
        lambda job_id: jobs.ended_job(state.queue, job_id),
        settings,
        state.metrics,
        state.tasks,
    )
