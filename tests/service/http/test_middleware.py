"""Request ids, counters and answers to the unexpected; the limits of bodies."""

import asyncio
import base64
import json
from typing import Any

import pytest

from service.core.current_request import note_job, note_queued
from service.core.errors import ContentTooLarge, Unavailable
from service.core.metrics import Metrics
from service.core.settings import Settings
from service.http.middleware import BodyLimits, RequestContext, release_body
from tests.service.tree import eventually
from tests.service.web import Service, assert_error, picture_bytes, serving

JSON = {"content-type": "application/json"}


@pytest.mark.slow
async def test_large_bodies_are_refused_declared_or_not(settings: Settings) -> None:
    async with serving(settings.model_copy(update={"max_body_bytes": 4096})) as service:
        await service.ready()
        large = b'{"question": "' + b"x" * 5000 + b'"}'
        assert_error(await service.client.post("/chat", content=large, headers=JSON), 413, "content_too_large")

        async def chunks() -> Any:
            for start in range(0, len(large), 100):
                yield large[start : start + 100]

        assert_error(await service.client.post("/chat", content=chunks(), headers=JSON), 413, "content_too_large")
        form = {"image": ("a.png", b"x" * 5000)}
        refused = await service.client.post("/chat", data={"question": "q"}, files=form)
        assert_error(refused, 413, "content_too_large")
        assert (await service.ask("echo fits")).status_code == 200
        assert await service.metric('viscpm_requests_total{outcome="content_too_large",route="/chat"}') == 3
        assert await service.accounting() == {"done": 1}


async def test_a_body_that_does_not_come_is_408(settings: Settings) -> None:
    async with serving(settings.model_copy(update={"body_timeout_s": 0.3})) as service:
        host, port = service.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /chat HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{")
        answer = await asyncio.wait_for(reader.read(-1), 5)
        assert answer.startswith(b"HTTP/1.1 408") and b'"code":"body_timeout"' in answer
        assert b"connection: close" in answer.lower()
        writer.close()
        assert await service.accounting() == {}


async def test_request_ids_are_kept_where_they_can_be(service: Service) -> None:
    async def given_id(value: str) -> str:
        return (await service.client.get("/health/live", headers={"x-request-id": value})).headers["x-request-id"]

    assert await given_id("abc-123") == "abc-123"
    assert (await given_id("with space")).startswith("req-")
    assert (await given_id("x" * 129)).startswith("req-")


@pytest.mark.slow
async def test_what_nobody_expected_is_a_500_without_insides(service: Service, caplog: Any) -> None:
    async def breaks(*_: object) -> None:
        raise RuntimeError("secret inside")

    service.state.conversations.get = breaks
    response = await service.client.get("/conversations/x", headers={"x-request-id": "find-me"})
    error = assert_error(response, 500, "internal_error")
    assert "secret" not in response.text and error["type"] == "server_error"
    assert response.headers["x-request-id"] == "find-me"
    [record] = [record for record in caplog.records if record.exc_info]
    assert record.fields == {"request_id": "find-me", "route": "/conversations/{conversation_id}"}


JSON_START = {"type": "http.response.start", "status": 200, "headers": []}
END = {"type": "http.response.body", "body": b"", "more_body": False}


async def called(app: Any, *messages: dict[str, Any], headers: tuple[tuple[bytes, bytes], ...] = ()) -> list[Any]:
    """What an ASGI app sends for the messages that it receives."""
    received, sent = iter(messages), []

    async def receive() -> Any:
        await asyncio.sleep(0.001)
        return next(received)

    async def send(message: Any) -> None:
        sent.append(message)

    await app({"type": "http", "method": "POST", "path": "/x", "headers": headers}, receive, send)
    return sent


def chunk(size_bytes: int, more_body: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": b"x" * size_bytes, "more_body": more_body}


async def read_body(scope: Any, receive: Any, send: Any) -> None:
    while (await receive()).get("more_body"):
        pass


async def test_a_body_at_the_cap_passes_and_one_byte_more_does_not() -> None:
    limited = BodyLimits(read_body, max_body_bytes=100, body_timeout_s=5)
    await called(limited, chunk(60), chunk(40, more_body=False))
    with pytest.raises(ContentTooLarge, match="^the body has 101 bytes or more, at most 100 are allowed$"):
        await called(limited, chunk(60), chunk(41, more_body=False))
    unread = (b"content-length", b"101")
    with pytest.raises(ContentTooLarge, match="101 bytes"):
        await called(limited, headers=(unread,))  # told before anything is received
    with pytest.raises(ContentTooLarge):
        await called(limited, chunk(101), headers=((b"content-length", b"5"),))


async def test_bodies_in_memory_are_bounded_together_and_freed_each() -> None:
    go_on = asyncio.Event()
    num_waiting = 0

    async def hold(scope: Any, receive: Any, send: Any) -> None:
        nonlocal num_waiting
        await read_body(scope, receive, send)
        num_waiting += 1
        await go_on.wait()

    limited = BodyLimits(hold, max_body_bytes=100, body_timeout_s=5)
    held = [asyncio.create_task(called(limited, chunk(100, more_body=False))) for _ in range(16)]
    await eventually(lambda: num_waiting == 16)
    for _ in range(2):  # what is refused is freed as well
        with pytest.raises(Unavailable, match="too many large bodies at once") as refused:
            await called(limited, chunk(1, more_body=False))
        assert refused.value.status == 503 and refused.value.retry_after_s == 1
    held.pop().cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    last = asyncio.create_task(called(limited, chunk(100, more_body=False)))
    await eventually(lambda: num_waiting == 17)
    go_on.set()
    await asyncio.gather(*held, last)


async def test_a_body_that_was_dropped_counts_no_more_and_is_freed_once() -> None:
    go_on = asyncio.Event()
    num_waiting = 0

    async def drop_and_wait(scope: Any, receive: Any, send: Any) -> None:
        nonlocal num_waiting
        await read_body(scope, receive, send)
        release_body(scope)
        release_body(scope)
        num_waiting += 1
        await go_on.wait()

    limited = BodyLimits(drop_and_wait, max_body_bytes=100, body_timeout_s=5)
    waiting = [asyncio.create_task(called(limited, chunk(100, more_body=False))) for _ in range(40)]
    await eventually(lambda: num_waiting == 40)
    assert limited._buffered_bytes == 0
    go_on.set()
    await asyncio.gather(*waiting)
    assert limited._buffered_bytes == 0


@pytest.mark.slow
async def test_waiting_jobs_leave_room_for_other_bodies(settings: Settings) -> None:
    """More of them than largest bodies may be in memory at once: their pictures are pixels long since."""
    body_bytes, num_jobs = 64 * 1024, 20
    picture = base64.b64encode(picture_bytes() + bytes(46 * 1024)).decode()
    async with serving(settings.model_copy(update={"max_body_bytes": body_bytes})) as service:
        await service.ready()
        sized = {"question": "stream 100000", "image": picture}
        form = {"image": ("a.png", base64.b64decode(picture))}
        assert num_jobs // 2 * (len(json.dumps(sized)) + len(form["image"][1])) > 16 * body_bytes
        waiting = [
            asyncio.create_task(
                service.client.post("/chat", data={"question": sized["question"]}, files=form)
                if number % 2
                else service.client.post("/chat", json=sized)
            )
            for number in range(num_jobs)
        ]

        async def are_taken() -> bool:
            return await service.redis.zcard("{viscpm}:slots:chat") == num_jobs == service.state.images.decodes

        await eventually(are_taken)
        assert (await service.client.post("/v1/moderations", json={"input": "x"})).json()["error"]["code"] == (
            "safety_unavailable"  # read, and then asked: not refused as a body too many
        )
        for key in await service.redis.keys("{viscpm}:job:*"):
            await service.client.delete(f"/jobs/{key.decode().rpartition(':')[2]}")
        assert {answer.status_code for answer in await asyncio.gather(*waiting)} == {499}
        assert await service.accounting() == {"cancelled": num_jobs}


async def test_after_its_body_a_client_may_take_its_time() -> None:
    """The limit is the body's: a listener for the client's leaving waits as long as the answer takes."""

    async def listen(scope: Any, receive: Any, send: Any) -> None:
        await read_body(scope, receive, send)
        await asyncio.sleep(0.1)
        assert (await receive())["type"] == "http.disconnect"

    limited = BodyLimits(listen, max_body_bytes=100, body_timeout_s=0.05)
    await called(limited, chunk(5, more_body=False), {"type": "http.disconnect"})


async def test_a_counter_has_moved_when_the_last_byte_leaves() -> None:
    metrics, seen = Metrics("api"), []

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        await send(JSON_START)
        await send({**END, "body": b"a", "more_body": True})
        await send(END)

    async def send(message: Any) -> None:
        seen.append((message["type"], b'viscpm_requests_total{outcome="ok"' in metrics.render()))

    async def receive() -> Any: ...

    context = RequestContext(answer, metrics)
    await context({"type": "http", "method": "GET", "path": "/x", "headers": ()}, receive, send)
    assert seen == [("http.response.start", False), ("http.response.body", False), ("http.response.body", True)]


async def test_what_breaks_after_the_beginning_is_not_answered_twice() -> None:
    sent: list[Any] = []

    async def breaks(scope: Any, receive: Any, send: Any) -> None:
        await send(JSON_START)
        raise RuntimeError("too late")

    async def send(message: Any) -> None:
        sent.append(message["type"])

    async def receive() -> Any: ...

    context = RequestContext(breaks, Metrics("api"))
    with pytest.raises(RuntimeError, match="too late"):
        await context({"type": "http", "method": "GET", "path": "/x", "headers": ()}, receive, send)
    assert sent == ["http.response.start"]


async def test_what_the_end_of_the_drain_cancels_is_told_so() -> None:
    async def cancelled(scope: Any, receive: Any, send: Any) -> None:
        raise asyncio.CancelledError

    metrics = Metrics("api")
    start, body = await called(RequestContext(cancelled, metrics))
    assert start["status"] == 503 and b'"code":"draining"' in body["body"]
    assert b'viscpm_requests_total{outcome="draining",route="unmatched"} 1.0' in metrics.render()


async def test_a_job_that_is_queued_by_then_is_said_to_be_kept() -> None:
    async def cancelled(scope: Any, receive: Any, send: Any) -> None:
        note_job("chat-1")
        note_queued()
        raise asyncio.CancelledError

    start, body = await called(RequestContext(cancelled, Metrics("api")))
    told = json.loads(body["body"])["error"]
    assert start["status"] == 503 and told["code"] == "draining" and told["job_id"] == "chat-1"
    assert "the job chat-1 is kept" in told["message"] and (b"retry-after", b"1") in start["headers"]
