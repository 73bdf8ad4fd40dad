"""Event streams against clients that read slowly, not at all, or go away."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from service.core.errors import JobLost
from service.http import sse
from service.http.error_handlers import OUTCOME
from service.http.sse import DONE, EventStream, event


class Connection:
    """One ASGI connection: `reads` lets the next writes through, `leave` makes the client go away."""

    def __init__(self, reads: bool = True) -> None:
        self.sent: list[dict[str, Any]] = []
        self.scope: dict[str, Any] = {"type": "http"}
        self.reads = asyncio.Event()
        self.has_left = asyncio.Event()
        if reads:
            self.reads.set()

    async def send(self, message: Any) -> None:
        await self.reads.wait()
        self.sent.append(message)

    async def receive(self) -> Any:
        await self.has_left.wait()
        return {"type": "http.disconnect"}

    def run(self, response: EventStream) -> "asyncio.Task[None]":
        return asyncio.create_task(response(self.scope, self.receive, self.send))

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)


async def counted(count: int, consumed: list[int]) -> AsyncIterator[bytes]:
    for number in range(count):
        consumed.append(number)
        yield event({"n": number})


async def test_events_are_one_line_of_json_each() -> None:
    assert event({"a": "x\ny"}) == b'data: {"a":"x\\ny"}\n\n'
    assert event({}, "name", "7") == b"event: name\nid: 7\ndata: {}\n\n"


async def test_a_client_that_does_not_read_does_not_hold_up_the_job() -> None:
    consumed: list[int] = []
    connection = Connection(reads=False)
    running = connection.run(EventStream(counted(1000, consumed)))
    await asyncio.sleep(0.05)
    assert len(consumed) == 1000 and not connection.sent
    connection.reads.set()
    await running
    assert connection.body == b"".join([event({"n": n}) for n in range(1000)]) + DONE
    assert connection.sent[-1]["more_body"] is False
    assert len(connection.sent) < 10  # what waited leaves together


async def test_a_client_that_never_reads_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "_SEND_TIMEOUT_S", 0.05)
    cancelled: list[bool] = []

    async def cancel() -> None:
        cancelled.append(True)

    connection = Connection()
    running = connection.run(EventStream(silent(), cancel))
    await asyncio.sleep(0.02)
    connection.reads.clear()
    monkeypatch.setattr(sse, "_KEEP_ALIVE_S", 0.01)
    await asyncio.sleep(0)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(running, 5)
    assert cancelled == [True]


async def silent() -> AsyncIterator[bytes]:
    yield event({"n": 0})
    await asyncio.sleep(0.1)
    yield event({"n": 1})
    await asyncio.sleep(60)


async def test_silence_is_filled_with_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "_KEEP_ALIVE_S", 0.02)

    async def slow() -> AsyncIterator[bytes]:
        await asyncio.sleep(0.1)
        yield event({"n": 0})

    connection = Connection()
    await connection.run(EventStream(slow()))
    assert connection.body.startswith(b": keep-alive\n\n")
    assert connection.body.endswith(event({"n": 0}) + DONE)


async def test_nothing_follows_the_end() -> None:
    """Also where the loop was late, and a comment was due in the moment of the end."""
    waiting: asyncio.Queue[bytes | None] = asyncio.Queue()
    for chunk in (event({"n": 0}), DONE, None, b": keep-alive\n\n"):
        waiting.put_nowait(chunk)
    assert await sse._next(waiting) == event({"n": 0}) + DONE
    assert await sse._next(waiting) is None


async def test_a_client_that_leaves_is_told_once_and_the_stream_ends_with_its_job() -> None:
    has_ended = asyncio.Event()
    calls: list[int] = []

    async def cancel() -> None:
        calls.append(1)
        has_ended.set()

    async def until_cancelled() -> AsyncIterator[bytes]:
        yield event({"n": 0})
        await has_ended.wait()

    connection = Connection()
    running = connection.run(EventStream(until_cancelled(), cancel))
    await asyncio.sleep(0.01)
    connection.has_left.set()
    await asyncio.wait_for(running, 5)
    assert calls == [1]


async def test_a_stream_that_ends_with_its_client_makes_nothing_more() -> None:
    """A job goes on without those who only look on."""
    made: list[int] = []
    is_closed = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                made.append(len(made))
                yield event({"n": made[-1]})
                await asyncio.sleep(0.005)
        finally:
            is_closed.set()

    for reads in (True, False):
        made.clear()
        is_closed.clear()
        connection = Connection(reads)
        running = connection.run(EventStream(endless()))
        await asyncio.sleep(0.03)
        connection.has_left.set()
        await asyncio.wait_for(is_closed.wait(), 5)
        connection.reads.set()  # a server lets the writes of a lost connection go
        await asyncio.wait_for(running, 5)
        count = len(made)
        await asyncio.sleep(0.03)
        assert len(made) == count > 1 and connection.scope[OUTCOME] == "client_gone"
        assert connection.sent[-1] == {"type": "http.response.body", "body": b"", "more_body": False}


async def test_errors_in_the_stream_are_events_and_outcomes(caplog: pytest.LogCaptureFixture) -> None:
    async def lost() -> AsyncIterator[bytes]:
        yield event({"n": 0})
        raise JobLost("forgotten")

    async def broken() -> AsyncIterator[bytes]:
        yield event({"n": 0})
        raise KeyError("secret inside")

    for events, code in ((lost(), b"job_lost"), (broken(), b"internal_error")):
        connection = Connection()
        await connection.run(EventStream(events))
        assert b'"code":"' + code + b'"' in connection.body and connection.body.endswith(DONE)
        assert b"secret" not in connection.body and connection.scope[OUTCOME] == code.decode()
    assert "secret inside" in caplog.text
