"""What every request passes, outermost first: its id, its times and counters, then the limits of its body."""

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Iterator

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.core.content_codings import CODINGS, CodingError, Decoder, coding_of
from service.core.current_request import CurrentRequest, begin_request
from service.core.errors import BodyTimeout, ContentTooLarge, Draining, InvalidRequest, Unavailable, UnsupportedMedia
from service.core.logs import fields
from service.core.metrics import Metrics
from service.http.error_handlers import OUTCOME, error_response, from_exception

logger = logging.getLogger(__name__)

_REQUEST_ID = re.compile(rb"[!-~]{1,128}")
_PROBED = ("/health/", "/v2", "/metrics", "/ui/")  # routes, and the page's files
_BUFFERED_BODIES = 16  # largest bodies that may be in memory at once
ANSWER_HEADERS = "viscpm.answer_headers"  # in a request's scope: what its answer tells beside its own headers
_RELEASE = "viscpm.release_body"  # in a request's scope


class RequestContext:
    """Gives each request its id, its timing headers, its place in the metrics and its line in the log; renders what
    nobody caught.

    Counters move before the last byte is sent, so the first scrape after a response shows it. The line comes after it.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id.decode()
        request = begin_request(request_id.decode())
        status = 0
        counted = False
        is_client_gone = False

        async def receive_on() -> Message:
            nonlocal is_client_gone
            message = await receive()
            if message["type"] == "http.disconnect" and not counted:
                is_client_gone = True
            return message

        async def send_on(message: Message) -> None:
            nonlocal status, counted
            if message["type"] == "http.response.start":
                status = message["status"]
                elapsed_ms = (time.perf_counter() - began) * 1000
                message["headers"] = [
                    *message.get("headers", ()),
                    *scope.get(ANSWER_HEADERS, ()),
                    (b"x-request-id", request_id),
                    (b"openai-processing-ms", b"%d" % elapsed_ms),
                ]
            elif not counted and not message.get("more_body", False):
                counted = True
                self._count(scope, status, time.perf_counter() - began)
            await send(message)

        try:
            await self._app(scope, receive_on, send_on)
        except asyncio.CancelledError:  # the drain is over, and the server cancels what is left
            if status:
                raise
            scope[OUTCOME] = Draining.code
            await error_response(_draining(request))(scope, receive, send_on)
        except Exception as error:
            logger.exception("a request broke", extra=fields(request_id=request.request_id, route=_route(scope)))
            if status:  # too late for another answer; the server cuts the connection
                raise
            scope[OUTCOME] = "internal_error"
            await error_response(from_exception(error))(scope, receive, send_on)
        finally:
            outcome = "client_gone" if is_client_gone else _outcome(scope, status) if counted else "cut_off"
            _log_request(scope, request, status, time.perf_counter() - began, outcome)

    def _count(self, scope: Scope, status: int, elapsed_s: float) -> None:
        route = _route(scope)
        self._metrics.count("requests_total", route=route, outcome=_outcome(scope, status))
        self._metrics.observe("e2e_request_latency_seconds", elapsed_s, route=route)


def _draining(request: CurrentRequest) -> Draining:
    if not request.is_queued:
        return Draining("this process is shutting down, ask again")
    error = Draining(
        f"this process is shutting down; the job {request.job_id} is kept, and GET /jobs/{request.job_id} tells its end"
    )
    error.extra = {"job_id": request.job_id}
    return error


class ContentDecoding:
    """Undoes a body's Content-Encoding while it is read, so that BodyLimits, inside, counts what comes of it.

    A coding that is not known is raised out of `receive` (415), what is not of its coding too (400).
    """

    def __init__(self, app: ASGIApp, max_body_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_body_bytes  # of what is sent; the same as of what it becomes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            named = [value for name, value in scope["headers"] if name == b"content-encoding"]
            if named and (coding := coding_of(b",".join(named).decode("latin-1"))):
                receive = self._decoding(coding, receive)
        await self._app(scope, receive, send)

    def _decoding(self, coding: str, receive: Receive) -> Receive:
        decoder = Decoder(coding)
        pieces: Iterator[bytes] = iter(())
        sent_bytes, is_complete, is_over = 0, False, False

        async def receive_decoded() -> Message:
            nonlocal pieces, sent_bytes, is_complete, is_over
            if coding not in CODINGS:
                raise UnsupportedMedia(f"Content-Encoding: {coding[:60]} is not read here; {', '.join(CODINGS)} are")
            while not is_over:
                try:
                    if piece := next(pieces, b""):
                        await asyncio.sleep(0)  # between two pieces, others have their turn
                        return {"type": "http.request", "body": piece, "more_body": True}
                    if is_complete:
                        is_over = True
                        decoder.finish()
                        return {"type": "http.request", "body": b"", "more_body": False}
                except CodingError as error:
                    raise InvalidRequest(f"body: {error}") from None
                message = await receive()
                if message["type"] != "http.request":
                    return message
                sent_bytes += len(message.get("body", b""))
                if sent_bytes > self._max_bytes:
                    raise _too_large(sent_bytes, self._max_bytes)
                is_complete = not message.get("more_body", False)
                pieces = decoder.feed(message.get("body", b""))
            return await receive()

        return receive_decoded


class BodyLimits:
    """Reads bodies under a byte cap, a time limit and a bound on all bodies in memory.

    What goes over is raised out of `receive`, before anything is parsed: 413, 408 or 503. A body counts until its route
    says that it holds nothing of it any more (`release_body`), at the latest until the response has ended.
    """

    def __init__(self, app: ASGIApp, max_body_bytes: int, body_timeout_s: float) -> None:
        self._app = app
        self._max_bytes = max_body_bytes
        self._timeout_s = body_timeout_s
        self._buffered_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
        declared_bytes = int(declared) if declared.isdigit() else 0
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout_s
        body_bytes = held_bytes = 0
        is_complete = False

        def release() -> None:
            nonlocal held_bytes
            self._buffered_bytes -= held_bytes
            held_bytes = 0

        async def receive_limited() -> Message:
            nonlocal body_bytes, held_bytes, is_complete
            if is_complete:
                return await receive()
            if declared_bytes > self._max_bytes:
                raise _too_large(declared_bytes, self._max_bytes)
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise BodyTimeout(
                    f"the body did not arrive within {self._timeout_s:g} s, {body_bytes} bytes did"
                ) from None
            if message["type"] != "http.request":
                is_complete = True
                return message
            size_bytes = len(message.get("body", b""))
            body_bytes += size_bytes
            held_bytes += size_bytes
            self._buffered_bytes += size_bytes
            is_complete = not message.get("more_body", False)
            if body_bytes > self._max_bytes:
                raise _too_large(body_bytes, self._max_bytes)
            if self._buffered_bytes > self._max_bytes * _BUFFERED_BODIES:
                raise Unavailable(
                    f"too many large bodies at once: {self._buffered_bytes} bytes, at most "
                    f"{self._max_bytes * _BUFFERED_BODIES} are held; try again later"
                )
            return message

        scope[_RELEASE] = release
        try:
            await self._app(scope, receive_limited, send)
        finally:
            release()


def release_body(scope: Scope) -> None:
    """The request's body is dropped: it makes room for others' while the job of this one is waited for."""
    if _RELEASE in scope:
        scope[_RELEASE]()


def _route(scope: Scope) -> str:
    """The template, never what a client wrote in its place."""
    route: str = getattr(scope.get("route"), "path", "unmatched")
    return route


def _outcome(scope: Scope, status: int) -> str:
    return scope.get(OUTCOME) or ("ok" if status < 400 else f"http_{status}")


def _log_request(scope: Scope, request: CurrentRequest, status: int, elapsed_s: float, outcome: str) -> None:
    """What machines ask for all the time is told at the level debug."""
    route = _route(scope)
    level = logging.DEBUG if route.startswith(_PROBED) else logging.INFO
    if logger.isEnabledFor(level):
        told = fields(
            method=scope["method"],
            route=route,
            status=status,
            duration_ms=round(elapsed_s * 1000, 1),
            request_id=request.request_id,
            key_id=request.key_id,
            job_id=request.job_id,
            tokens=request.tokens,
            steps=request.steps,
            outcome=outcome,
        )
        logger.log(level, "request", extra=told)


def _too_large(got_bytes: int, max_bytes: int) -> ContentTooLarge:
    return ContentTooLarge(f"the body has {got_bytes} bytes or more, at most {max_bytes} are allowed")


def _request_id(scope: Scope) -> bytes:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return bytes(value)
    return b"req-" + secrets.token_hex(12).encode()
