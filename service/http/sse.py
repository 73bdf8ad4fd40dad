"""Server-sent events: what a stream looks like, and a response that outlives neither its client nor its job.

The job's events are taken as they come and wait in memory (one answer at most) for a client that reads slowly, so a
slow client holds up neither its job's ending nor anybody else.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.core.errors import BusUnavailable, ServiceError, error_body
from service.http.error_handlers import OUTCOME, from_exception

_log = logging.getLogger(__name__)

DONE = b"data: [DONE]\n\n"
CLIENT_GONE = "client_gone"  # outcome of a stream whose client left; its job goes on
_KEEP_ALIVE = b": keep-alive\n\n"
_KEEP_ALIVE_S = 15.0
_SEND_TIMEOUT_S = 120.0  # one write to a client that reads nothing at all


def event(data: object, name: str = "", event_id: str = "") -> bytes:
    """One event with JSON data."""
    head = (f"event: {name}\n" if name else "") + (f"id: {event_id}\n" if event_id else "")
    return head.encode() + b"data: " + msgspec.json.encode(data) + b"\n\n"


class EventStream(Response):
    """Sends events as they come, then `[DONE]`; an error after the 200 is an event too (CONVENTIONS §1).

    Args:
        events: encoded events. Runs to its end at its own pace.
        on_disconnect: called once when the client goes away before the end, and ends what `events` come from. Without
            it they are left at once: nothing more is made of them for nobody.
        job_id: told in a header, by which the stream can be taken up again; empty: its events tell it.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        events: AsyncIterator[bytes],
        on_disconnect: Callable[[], Awaitable[object]] | None = None,
        job_id: str = "",
    ) -> None:
        super().__init__(headers={"cache-control": "no-cache", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        if job_id:
            self.headers["x-job-id"] = job_id
        self._events = events
        self._on_disconnect = on_disconnect

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        waiting: asyncio.Queue[bytes | None] = asyncio.Queue()
        pump = asyncio.create_task(self._pump(waiting, scope))

        async def leave() -> None:
            scope[OUTCOME] = CLIENT_GONE
            pump.cancel()
            waiting.put_nowait(None)

        listener = asyncio.create_task(until_disconnect(receive, self._on_disconnect or leave))
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async with asyncio.timeout(None) as limit:
                watch = _Watch(waiting, limit)
                try:
                    while (chunk := await _next(waiting)) is not None:
                        watch.is_sending = True
                        await send({"type": "http.response.body", "body": chunk, "more_body": True})
                        watch.note_sent()
                finally:
                    watch.close()
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except TimeoutError:
            _log.info("a stream's client read nothing for %g s", _SEND_TIMEOUT_S)
            if self._on_disconnect is not None:
                with suppress(BusUnavailable):
                    await self._on_disconnect()
            raise
        finally:
            listener.cancel()
            if not pump.done():
                pump.cancel()
            elif not pump.cancelled():
                pump.result()

    async def _pump(self, waiting: "asyncio.Queue[bytes | None]", scope: Scope) -> None:
        try:
            async for chunk in self._events:
                waiting.put_nowait(chunk)
        except Exception as error:
            if not isinstance(error, ServiceError):
                _log.exception("a stream broke")
            told = from_exception(error)
            scope[OUTCOME] = told.code
            waiting.put_nowait(event(error_body(told)))
        waiting.put_nowait(DONE)
        waiting.put_nowait(None)


async def until_disconnect(receive: Receive, then: Callable[[], Awaitable[object]]) -> None:
    """Wait until the client is gone; call `then`."""
    while (await receive())["type"] != "http.disconnect":
        pass
    with suppress(ServiceError):  # Redis is away, or the job is unknown: its deadline ends it
        await then()


class _Watch:
    """Comments in silence, and an end to a write that is not read: by one timer, since one for each event is dear.

    Args:
        limit: of what sends, without an end until then.
    """

    def __init__(self, waiting: "asyncio.Queue[bytes | None]", limit: asyncio.Timeout) -> None:
        self.is_sending = False
        self._waiting = waiting
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._since = self._loop.time()  # the last write, or the first look at the one that goes on
        self._is_late = False
        self._look_in(min(_KEEP_ALIVE_S, _SEND_TIMEOUT_S))

    def note_sent(self) -> None:
        self.is_sending = self._is_late = False
        self._since = self._loop.time()

    def close(self) -> None:
        self._timer.cancel()

    def _look_in(self, wait_s: float) -> None:
        self._timer = self._loop.call_later(max(wait_s, 0.001), self._look)

    def _look(self) -> None:
        now = self._loop.time()
        if not self.is_sending and now - self._since >= _KEEP_ALIVE_S:
            self._waiting.put_nowait(_KEEP_ALIVE)
            self._since = now
        elif self.is_sending and not self._is_late:
            self._is_late, self._since = True, now
        elif self.is_sending and now - self._since >= _SEND_TIMEOUT_S:
            self._limit.reschedule(now)
            return
        left_s = (_SEND_TIMEOUT_S if self.is_sending else _KEEP_ALIVE_S) - (now - self._since)
        self._look_in(min(left_s, _SEND_TIMEOUT_S, _KEEP_ALIVE_S))


async def _next(waiting: "asyncio.Queue[bytes | None]") -> bytes | None:
    """All that waits to be sent, as one piece; None after the last."""
    chunk = await waiting.get()
    if chunk is None:
        return None
    chunks = [chunk]
    while not waiting.empty():
        chunk = waiting.get_nowait()
        if chunk is None:
            _end(waiting)
            break
        chunks.append(chunk)
    return b"".join(chunks)


def _end(waiting: "asyncio.Queue[bytes | None]") -> None:
    """Leave nothing but the end: a comment that was due in the same moment would follow `[DONE]`."""
    while not waiting.empty():
        waiting.get_nowait()
    waiting.put_nowait(None)
