"""Jobs on their way through a worker: from the queue into the engine's thread, and their events back."""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import msgspec

from models.jobs import ChatJob, Event, Failed, Generated, ImageEmbeddingsComputed, Job, ModelDescription
from service.core.backoff import Backoff
from service.core.errors import BusUnavailable, ConversationNotFound, ModelUnavailable
from service.queue.consumer import Delivery, JobConsumer
from service.queue.vision_cache import VisionCache
from service.worker.engine_thread import EngineThread, TokenEvent, one_line
from service.worker.gpu_stats import empty_device_cache
from service.worker.job_log import JobLog

_log = logging.getLogger(__name__)

_TAKEN_AT_ONCE = 8  # jobs at most, so that workers beside each other share a burst that one of them could take whole
_BLOCK_S = 0.5  # of a pull; also how soon given-back jobs are noticed
_CANCELLED_BLOCK_S = 5.0
_QUICK_S = 0.01  # an engine that was done by then, when it was idle, may be done at once with the next job too
_QUEUED_MS = 2  # a job that waited longer than that was not the only one
_BEGIN_S = 0.002  # for a quick engine to have a lone job for itself before the next one is asked for
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.05, 1.0  # before Redis is asked again

Spawn = Callable[[Coroutine[Any, Any, None], str], "asyncio.Task[Any]"]


class Dispatcher:
    """What one worker has in hand. Everything here runs on the event loop.

    Args:
        spawn: runs a short coroutine, of one job, beside the others.
        capacity: how many jobs the engine takes before it has any.
        model: as the engine describes itself.
    """

    def __init__(
        self,
        consumer: JobConsumer,
        thread: EngineThread,
        vision_cache: VisionCache,
        spawn: Spawn,
        capacity: int,
        model: ModelDescription,
    ) -> None:
        self._consumer = consumer
        self._thread = thread
        self._vision_cache = vision_cache
        self._spawn = spawn
        self._model = model
        self.capacity = capacity  # as the engine last said
        self._admitting = 0  # handed to the engine, which has not answered yet
        self._in_hand: dict[str, Delivery] = {}  # until their last event is published
        self._in_engine: set[str] = set()
        self._unpublished: dict[str, Delivery] = {}
        self._job_log = JobLog()
        self._is_pulling = True
        self._is_quick = False  # the engine was done with the last lone job within _QUICK_S
        self._busy_since_s = 0.0
        self._changed = asyncio.Event()  # room, or fewer jobs in hand
        self._has_unpublished = asyncio.Event()

    def __len__(self) -> int:
        return len(self._in_hand)

    # What the engine's thread tells ---------------------------------------------------------------------------------

    def on_image_wanted(self, job: Job, token: int, key: str) -> None:
        self._spawn(self._bring_image(job, token, key), f"job {job.job_id}: bringing its image")

    def on_events(self, events: list[TokenEvent], capacity: int, admitted: int) -> None:
        self.capacity = capacity
        self._admitting -= admitted
        for job_id, token, event in events:
            if isinstance(event, ImageEmbeddingsComputed):
                self._spawn(self._store_embeddings(event), f"job {job_id}: storing its image's embeddings")
                continue
            delivery = self._in_hand.get(job_id)
            if delivery is None or delivery.token != token:  # of a delivery that was lost meanwhile
                continue
            if isinstance(event, Generated | Failed):
                self._in_engine.discard(job_id)
            self._put_in_line(delivery, self._named(event) if isinstance(event, Generated) else event)
        self._has_unpublished.set()
        self._changed.set()

    def on_step_failed(self, error: Exception, job_ids: list[str], capacity: int, is_broken: bool) -> None:
        """A step raised and the engine dropped its jobs: they are tried again, each alone; one that was alone fails.

        Args:
            is_broken: the process cannot go on, so no job may be blamed.
        """
        self.capacity = capacity
        is_memory = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
        if is_memory:
            empty_device_cache()
        reason = "the device ran out of memory" if is_memory else f"{type(error).__name__}: {error}"
        for job_id in job_ids:
            self._in_engine.discard(job_id)
            delivery = self._in_hand.get(job_id)
            if delivery is None:
                continue
            if len(job_ids) == 1 and not is_broken:
                failed = Failed(code="job_failed", message=f"job {job_id} failed: {reason}")
                self._put_in_line(delivery, failed)
            else:
                self._drop(delivery, "requeued")
                self._spawn(self._requeue(delivery, is_counted=True, is_isolated=True), f"job {job_id}: requeueing")
        self._has_unpublished.set()
        self._changed.set()

    # Duties ---------------------------------------------------------------------------------------------------------

    async def pull(self) -> None:
        """Take jobs while the engine has room, until `stop_pulling`."""
        backoff = Backoff(_FIRST_WAIT_S, _LONGEST_WAIT_S)
        next_recovery_s = 0.0
        await self._consumer.close()  # started again: a reply on its way there is of jobs that come back by their lease
        while self._is_pulling:
            self._changed.clear()
            room = min(self._room(), _TAKEN_AT_ONCE)
            if room <= 0:
                await self._changed.wait()
                continue
            try:
                taken: list[Delivery] = []
                if self._consumer.must_empty or time.monotonic() >= next_recovery_s:
                    taken = await self._consumer.recover(room, len(self._in_engine))
                    next_recovery_s = time.monotonic() + _BLOCK_S
                if not taken and not self._consumer.must_empty:
                    taken = await self._consumer.take(room, lambda: len(self._in_hand), _BLOCK_S)
                backoff.reset()
            except BusUnavailable as error:
                if not backoff.failures:
                    _log.warning("cannot take jobs: %s", error.message)
                await backoff.wait()
                continue
            was_idle = not self._in_hand
            self._busy_since_s = time.monotonic() if was_idle else self._busy_since_s
            for delivery in taken:
                if self._is_pulling:
                    self._start(delivery)
                else:
                    await self._requeue(delivery, is_counted=False)
            if taken and was_idle and self._is_quick:
                await self._let_engine_work()

    async def _let_engine_work(self) -> None:
        """Its thread needs the interpreter, which this one would keep while it asks for the next job; and what is done
        is published first."""
        is_over = False

        def end() -> None:
            nonlocal is_over
            is_over = True
            self._changed.set()

        limit = asyncio.get_running_loop().call_later(_BEGIN_S, end)
        while self._in_hand and not is_over:
            self._changed.clear()
            await self._changed.wait()
        limit.cancel()

    def _room(self) -> int:
        if any(self._in_hand[job_id].is_isolated for job_id in self._in_engine):
            return 0
        if self._consumer.must_empty and self._in_engine:
            return 0
        return self.capacity - self._admitting

    def _start(self, delivery: Delivery) -> None:
        self._stop_in_engine(delivery.job_id)  # an earlier delivery of it, which this worker lost to itself
        self._in_hand[delivery.job_id] = delivery
        self._job_log.begin(delivery.job, delivery.number)
        if delivery.claim is not None:
            delivery.claim.add_done_callback(lambda claim: self._on_claim(delivery, claim))
        if (misfit := self._misfit(delivery.job)) is not None:
            self._put_in_line(delivery, misfit)
            self._has_unpublished.set()
            return
        self._in_engine.add(delivery.job_id)
        self._admitting += 1
        self._thread.admit(delivery.job, delivery.token)

    def _misfit(self, job: Job) -> Failed | None:
        """Why this model cannot take a job that was made for another, while the one replaces the other."""
        size_px = self._model.image_size_px
        if not isinstance(job, ChatJob) or not size_px or job.image_size_px in (0, size_px):
            return None
        message = (
            f"job {job.job_id}: its picture was made for a model of {job.image_size_px} px, and the worker that took "
            f"it serves one of {size_px} px: the model is being changed, ask again"
        )
        return Failed(code=ModelUnavailable.code, message=message)

    def _named(self, generated: Generated) -> Generated:
        model = self._model
        return msgspec.structs.replace(
            generated, model=model.name, fingerprint=model.fingerprint, untrained=model.untrained
        )

    def _on_claim(self, delivery: Delivery, claim: "asyncio.Future[Any]") -> None:
        if not self._consumer.is_claimed(claim):
            self._cancel(delivery)

    async def publish(self) -> None:
        """Send what the engine says; what Redis does not take now is kept and sent again."""
        backoff = Backoff(_FIRST_WAIT_S, _LONGEST_WAIT_S)
        while True:
            await self._has_unpublished.wait()
            self._has_unpublished.clear()
            deliveries, self._unpublished = list(self._unpublished.values()), {}
            try:
                published = await self._consumer.publish(deliveries)
            except BaseException:  # started again, it sends them again, which changes nothing where they had come
                self._keep_unpublished(deliveries)
                raise
            for delivery in published.lost:
                self._cancel(delivery)
            for delivery in published.ended:
                self._drop(delivery)
            if not published.unsent:
                backoff.reset()
                continue
            self._keep_unpublished(published.unsent)
            await backoff.wait()

    def _keep_unpublished(self, deliveries: list[Delivery]) -> None:
        unsent = {one.job_id: one for one in deliveries if self._in_hand.get(one.job_id) is one}
        self._unpublished = unsent | self._unpublished
        self._has_unpublished.set()

    async def keep_leases(self) -> None:
        """One renewal. Raises BusUnavailable."""
        for delivery in await self._consumer.renew(list(self._in_hand.values())):
            self._cancel(delivery)

    async def hear_cancellations(self) -> None:
        """Hears of cancelled jobs at once; the next publish or renewal would tell as well."""
        backoff = Backoff(_FIRST_WAIT_S, _LONGEST_WAIT_S)
        while True:
            try:
                cancelled = await self._consumer.cancelled(_CANCELLED_BLOCK_S)
            except BusUnavailable:
                await backoff.wait()
                continue
            backoff.reset()
            for job_id in cancelled:
                delivery = self._in_hand.get(job_id)
                if delivery is not None and not delivery.last_state:
                    self._cancel(delivery, "cancelled")

    async def _bring_image(self, job: Job, token: int, key: str) -> None:
        """Admit a job with what its engine asked for: its image's embeddings, else its pixels."""
        assert isinstance(job, ChatJob)
        try:
            job = await self._with_image(job, key)
        except BusUnavailable:  # nothing to compute an answer from: another delivery
            self._give_up(job.job_id, token, None)
            return
        except Exception as error:
            _log.exception("job %s: its image cannot be brought", job.job_id)
            message = f"job {job.job_id} failed: {one_line(error)}"
            self._give_up(job.job_id, token, Failed(code="job_failed", message=message))
            return
        if not (job.image_embeddings or job.pixels):
            message = f"job {job.job_id}: its conversation was deleted, or has expired, and the picture with it"
            self._give_up(job.job_id, token, Failed(code=ConversationNotFound.code, message=message))
        elif self._is_in_hand(job.job_id, token):
            self._thread.admit(job, token, has_looked=True)
        else:
            self._give_up(job.job_id, token, None)

    async def _with_image(self, job: ChatJob, key: str) -> ChatJob:
        """Raises BusUnavailable."""
        data = b""
        with suppress(BusUnavailable):  # then they are computed
            data = await self._vision_cache.get(key)
        if data and len(data) == (self._model.image_embeddings_bytes or len(data)):
            return msgspec.structs.replace(job, image_embeddings=data)
        return msgspec.structs.replace(job, pixels=job.pixels or await self._consumer.pixels(job))

    def _put_in_line(self, delivery: Delivery, event: Event) -> None:
        """For `publish`."""
        self._job_log.see(delivery.job_id, event)
        delivery.add(event)
        self._unpublished[delivery.job_id] = delivery

    def _is_in_hand(self, job_id: str, token: int) -> bool:
        delivery = self._in_hand.get(job_id)
        return delivery is not None and delivery.token == token

    def _give_up(self, job_id: str, token: int, failed: Failed | None) -> None:
        """A job that its engine will not get: it fails, or others try it, or it was cancelled meanwhile."""
        self._admitting -= 1
        delivery = self._in_hand.get(job_id)
        if delivery is not None and delivery.token == token:
            if failed is not None:
                self._in_engine.discard(job_id)
                self._put_in_line(delivery, failed)
                self._has_unpublished.set()
            else:
                self._drop(delivery, "requeued")
                self._spawn(self._requeue(delivery, is_counted=False), f"job {job_id}: requeueing")
        self._changed.set()

    async def _store_embeddings(self, computed: ImageEmbeddingsComputed) -> None:
        with suppress(BusUnavailable):  # then the next one computes them again
            await self._vision_cache.put(computed.key, computed.data)

    # Ends -----------------------------------------------------------------------------------------------------------

    def stop_pulling(self) -> None:
        self._is_pulling = False
        self._changed.set()

    async def finished(self) -> None:
        """Wait until nothing is in hand."""
        while self._in_hand:
            self._changed.clear()
            await self._changed.wait()

    async def requeue_all(self) -> int:
        """Leave what is in hand to others, at once and not counted as a delivery; how many there were."""
        leftovers = list(self._in_hand.values())
        for delivery in leftovers:
            self._thread.cancel(delivery.job_id)
        await asyncio.gather(*(self._requeue(one, is_counted=False) for one in leftovers))
        for delivery in leftovers:
            self._job_log.end(delivery.job_id, "requeued")
        return len(leftovers)

    def _cancel(self, delivery: Delivery, outcome: str = "lost") -> None:
        if self._is_in_hand(delivery.job_id, delivery.token):
            self._stop_in_engine(delivery.job_id)
        self._drop(delivery, outcome)

    def _stop_in_engine(self, job_id: str) -> None:
        if job_id in self._in_engine:
            self._thread.cancel(job_id)

    def _drop(self, delivery: Delivery, outcome: str = "") -> None:
        """`outcome`: for the log line, where it is not the one of the last event."""
        if self._is_in_hand(delivery.job_id, delivery.token):  # and not, by now, its job's next delivery
            del self._in_hand[delivery.job_id]
            self._unpublished.pop(delivery.job_id, None)
            self._in_engine.discard(delivery.job_id)
            self._job_log.end(delivery.job_id, outcome)
            if not self._in_hand:
                is_lone = self._consumer.last_wait_ms <= _QUEUED_MS
                self._is_quick = is_lone and time.monotonic() - self._busy_since_s < _QUICK_S
        self._changed.set()

    async def _requeue(self, delivery: Delivery, is_counted: bool, is_isolated: bool = False) -> None:
        with suppress(BusUnavailable):  # then its lease runs out
            await self._consumer.requeue(delivery, is_counted, is_isolated)
