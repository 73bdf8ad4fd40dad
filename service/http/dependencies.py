"""What routes work with: one object per API process, built by the app's lifespan."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from starlette.requests import Request

from service.access.api_keys import ApiKey
from service.access.key_store import KnownKeys
from service.access.usage import UsageBook
from service.access.wrong_keys import WrongKeys
from service.batches.batch_store import BatchStore
from service.batches.files import Files
from service.core.current_request import note_job
from service.core.errors import Draining, InvalidRequest, JobNotFound, QueueFull, ServiceError
from service.core.metrics import Metrics
from service.core.settings import Settings
from service.core.tasks import TaskSupervisor
from service.http.model_aliases import ModelAliases
from service.http.scrape import WorkerScraper
from service.image_input.intake import ImageIntake
from service.image_output.ai_labels import AILabels
from service.image_output.picture_links import PictureLinks
from service.jobs.conversations import Conversations
from service.jobs.gated_queue import GatedQueue
from service.jobs.idempotency import IdempotencyKeys
from service.jobs.screened_stream import JobStream
from service.jobs.worker_registry import WorkerRegistry
from service.queue.latest_paintings import LatestPaintings
from service.queue.record import JobRecord

if TYPE_CHECKING:  # an HTTP client that most installations do without
    from service.webhooks.delivery import WebhookDelivery

_log = logging.getLogger(__name__)

DEFAULT_TENANT = "default"
CALLER = "viscpm.caller"  # in a request's scope, where a key was asked for


class Caller(NamedTuple):
    """Whose request it is; without a key where none is asked for."""

    tenant: str
    key: ApiKey | None = None
    is_batch: bool = False  # a batch's line, which this service asks itself


_ANYBODY = Caller(DEFAULT_TENANT)


@dataclass
class ApiState:
    """The gated queue is the only way to a model here; the queue itself is out of reach."""

    settings: Settings
    metrics: Metrics
    tasks: TaskSupervisor
    queue: GatedQueue
    registry: WorkerRegistry
    aliases: ModelAliases
    conversations: Conversations
    images: ImageIntake
    labels: AILabels
    picture_links: PictureLinks
    latest_paintings: LatestPaintings
    scraper: WorkerScraper
    keys: KnownKeys
    wrong_keys: WrongKeys
    idempotency: IdempotencyKeys
    usage: UsageBook
    files: Files
    batches: BatchStore
    webhooks: "WebhookDelivery | None" = None  # where there is a secret to sign with
    is_draining: bool = False
    num_moderating: int = 0
    _refuses_from_s: float = 0.0

    def begin_drain(self) -> None:
        """Not ready from now on, and no new jobs after `drain_notice_s`; those accepted are finished."""
        self.is_draining = True
        self._refuses_from_s = time.monotonic() + self.settings.drain_notice_s

    def refuse_while_draining(self) -> None:
        if self.is_draining and time.monotonic() >= self._refuses_from_s:
            raise Draining("this process is shutting down, ask again")

    @contextmanager
    def moderating(self) -> Iterator[None]:
        """A place for one request to the screens alone, taken before a picture is decoded. Raises QueueFull."""
        if self.num_moderating >= self.settings.queue_size:
            raise QueueFull(f"{self.num_moderating} moderations are under way, which is all that may; try again later")
        self.num_moderating += 1
        try:
            yield
        finally:
            self.num_moderating -= 1

    def first_text_timer(self, began_s: float) -> Callable[[], None]:
        """What a chat stream calls with its first text; `began_s` is of the event loop's clock."""

        def note() -> None:
            waited_s = asyncio.get_running_loop().time() - began_s
            self.metrics.observe("time_to_first_token_seconds", waited_s, model="chat")

        return note

    def finish_in_background(self, stream: JobStream, job_id: str) -> None:
        """See a queued job to its ending without its client."""

        async def run() -> None:
            try:
                async with stream:
                    await stream.outcome()
            except ServiceError as error:  # such as Redis being away for long: another process ends the job
                _log.warning("job %s is left to others: %s", job_id, error.message)
            if self.webhooks is not None:
                self.webhooks.wake()

        self.tasks.spawn(run(), f"job {job_id}")

    async def close(self) -> None:
        await self.tasks.close()


def state_of(request: Request) -> ApiState:
    state: ApiState = request.app.state.api
    return state


def request_id_of(request: Request) -> str:
    """As the answer's `x-request-id` tells."""
    request_id: str = request.state.request_id
    return request_id


def caller_of(request: Request) -> Caller:
    caller: Caller = request.scope.get(CALLER, _ANYBODY)
    return caller


def tenant_of(request: Request) -> str:
    """Whose conversations and jobs a request may see."""
    return caller_of(request).tenant


async def job_of(request: Request, job_id: str) -> JobRecord:
    """A chat or paint job of the request's tenant. Raises JobNotFound."""
    record = await state_of(request).queue.status(job_id)
    if record is None or record.kind == "safety" or record.tenant != tenant_of(request):
        raise JobNotFound(f"no job {job_id!r}: it never was, or it ended longer ago than the retention time")
    note_job(job_id)
    return record


def deadline_of(request: Request) -> float | None:
    """Seconds that `X-Deadline-Ms` leaves the request; None: the service's own deadline. Raises InvalidRequest."""
    sent = request.headers.get("x-deadline-ms")
    if sent is None:
        return None
    if not (sent.isascii() and sent.isdigit() and len(sent) <= 9 and int(sent) > 0):
        raise InvalidRequest(
            f"X-Deadline-Ms: must be milliseconds from 1 to 999999999, got {sent[:40]!r}", param="X-Deadline-Ms"
        )
    return int(sent) / 1000
