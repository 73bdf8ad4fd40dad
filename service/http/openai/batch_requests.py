"""A line of a batch as a request to this service's own routes: what holds for any request holds for it.

It passes the whole app, in this process, as its batch's tenant and key, and with the priority of batches.
"""

import asyncio
from typing import Any

import msgspec
from starlette.types import ASGIApp, Message

from service.batches.batch_store import BatchRequest
from service.batches.lines import LineAnswer, RequestLine
from service.core.errors import InvalidApiKey, JobLost
from service.http.dependencies import CALLER, ApiState, Caller


class _ErrorCode(msgspec.Struct):
    code: str = ""


class _ErrorBody(msgspec.Struct):
    error: _ErrorCode = msgspec.field(default_factory=_ErrorCode)


class BatchRequests:
    """The way from batches to the app, and to the jobs that come of their lines."""

    def __init__(self, app: ASGIApp, state: ApiState) -> None:
        self._app = app
        self._state = state

    async def send(self, batch: BatchRequest, line: RequestLine, key: str) -> LineAnswer:
        """The answer. `key` is the line's Idempotency-Key. Raises InvalidApiKey where the batch's key is no good."""
        return await _exchange(self._app, line, key, await self._caller(batch))

    async def withdraw(self, batch: BatchRequest, key: str) -> None:
        """Cancel the line's job if it waits still. Raises BusUnavailable."""
        job_id = await self._state.idempotency.job_of(batch.tenant, key)
        record = None if job_id is None else await self._state.queue.status(job_id)
        if job_id is not None and record is not None and record.state == "queued":
            try:
                await self._state.queue.cancel(job_id, "batch_cancelled")
            except JobLost:
                return

    @property
    def is_closing(self) -> bool:
        """Whether this process is shutting down: others go on with batches."""
        return self._state.is_draining

    async def _caller(self, batch: BatchRequest) -> Caller:
        if batch.key_id:
            return Caller(batch.tenant, await self._state.keys.live(batch.key_id), is_batch=True)
        if not self._state.settings.is_open:
            raise InvalidApiKey("the batch was made without an API key, and the service asks for one now")
        return Caller(batch.tenant, is_batch=True)


async def _exchange(app: ASGIApp, line: RequestLine, key: str, caller: Caller) -> LineAnswer:
    body, is_sent = bytes(line.body), False
    status, headers, answer = 500, {}, bytearray()

    async def receive() -> Message:
        nonlocal is_sent
        if is_sent:
            await asyncio.Event().wait()  # this client never leaves
        is_sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        nonlocal status, headers
        if message["type"] == "http.response.start":
            status = message["status"]
            headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in message["headers"]}
        else:
            answer.extend(message.get("body", b""))

    await app(_scope(line.url, key, len(body), caller), receive, send)
    retry_after = headers.get("retry-after", "")
    return LineAnswer(
        status,
        headers.get("x-request-id", ""),
        bytes(answer),
        _code_of(status, answer),
        float(retry_after) if retry_after.isdigit() else 0.0,
    )


def _scope(path: str, key: str, body_bytes: int, caller: Caller) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % body_bytes),
            (b"idempotency-key", key.encode()),
        ],
        "client": None,
        "server": None,
        CALLER: caller,
    }


def _code_of(status: int, answer: bytearray) -> str:
    if status < 400:
        return ""
    try:
        return msgspec.json.decode(answer, type=_ErrorBody).error.code
    except msgspec.DecodeError:
        return ""
