"""Offers of another protocol, as stock clients make them with every request, to the server of `viscpm api`."""

import json
import logging
from collections.abc import AsyncIterator

import pytest

from tests.service.tree import quick_settings
from tests.service.web import Service, serving
from tests.service.wire import body_of, chunked, post, said

# Head lines of JDK 17's HttpClient, which curl --http2 sends in another order
OFFER = (
    b"Connection: Upgrade, HTTP2-Settings",
    b"HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
    b"Upgrade: h2c",
)
WEBSOCKET = (b"Upgrade: websocket", b"Connection: keep-alive, Upgrade", b"Sec-WebSocket-Version: 13")
QUESTION = json.dumps({"question": ["no", "text"], "stream": False}).encode()
CLOSING = b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@pytest.fixture
async def service(redis_url: str) -> AsyncIterator[Service]:
    """Without workers: what is asked here is told what is wrong with it, so it was read."""
    async with serving(quick_settings(redis_url)) as served:
        yield served


FORM = (
    b'--b\r\nContent-Disposition: form-data; name="question"\r\n\r\nq\r\n'
    b'--b\r\nContent-Disposition: form-data; name="mask"\r\n\r\n1\r\n--b--\r\n'
)
FORM_TYPE = b"multipart/form-data; boundary=b"


@pytest.mark.slow
@pytest.mark.parametrize("offer", [OFFER, OFFER[::-1], WEBSOCKET], ids=["jdk", "curl", "websocket"])
@pytest.mark.parametrize("pieces", [1, 2, 11])
@pytest.mark.parametrize("kind", ["length", "chunked", "form", "chunked form"])
async def test_an_offer_is_passed_over_and_the_body_read(
    service: Service, caplog: pytest.LogCaptureFixture, offer: tuple[bytes, ...], pieces: int, kind: str
) -> None:
    caplog.set_level(logging.WARNING)
    sent, at_fault = {
        "length": (post("/chat", QUESTION, *offer, close=False), "question"),
        "chunked": (chunked("/chat", QUESTION, *offer), "question"),
        "form": (post("/chat", FORM, *offer, media=FORM_TYPE, close=False), "mask"),
        "chunked form": (chunked("/chat", FORM, *offer, media=FORM_TYPE), "mask"),
    }[kind]
    step = -(-len(sent) // pieces)
    parts = [sent[i : i + step] for i in range(0, len(sent), step)]
    answer = await said(service.url, *parts, CLOSING, pause_s=0.005)
    first, second, *more = answer.split(b"HTTP/1.1 ")[1:]
    assert (first[:3], second[:3], more) == (b"400", b"200", []), answer
    assert body_of(first)["error"]["param"] == at_fault
    assert caplog.records == []


async def test_offers_in_one_write_are_answered_in_their_order(service: Service) -> None:
    live = b"GET /health/live HTTP/1.1\r\nHost: x\r\n" + b"".join(line + b"\r\n" for line in OFFER) + b"\r\n"
    answer = await said(service.url, live + post("/chat", QUESTION, *OFFER, close=False) + live + CLOSING)
    assert [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]] == [b"200", b"400", b"200", b"200"]


async def test_an_offer_smuggles_nothing(service: Service) -> None:
    """What is read a second time is the head as it was parsed; a body of two lengths is refused as ever."""
    both = post("/chat", b"0\r\n\r\n", *OFFER, b"Transfer-Encoding: chunked", close=False) + CLOSING
    answer = await said(service.url, both)
    assert answer.startswith(b"HTTP/1.1 400") and answer.count(b"HTTP/1.1 ") == 1
    hidden = b"GET /health/live HTTP/1.1\r\nHost: x\r\nX-A: b\rGET /metrics HTTP/1.1\r\n" + b"".join(
        line + b"\r\n" for line in OFFER
    )
    answer = await said(service.url, hidden + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 400") and b"# HELP" not in answer


async def test_connect_is_no_offer_of_ours(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    answer = await said(service.url, b"CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400")
