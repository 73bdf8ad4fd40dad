"""Below the bodies: offers of other protocols, HTTP/1.0, methods, paths, proxies' headers, other origins."""

import json
import sys
from collections.abc import Callable

import httpx
import pytest

from tests.clients.asking import IMAGE, QUESTION, answered, ask, encoded, refused
from tests.clients.conftest import ORIGIN, PROXY
from tests.service.api_process import ApiProcess
from tests.service.web import picture_bytes, sse_events
from tests.service.wire import body_of, chunked, form, post, said

PICTURE = picture_bytes()
CLOSING = b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
WAIT = {"Prefer": "respond-async"}

# Head lines of JDK 17's HttpClient (Spring, LangChain4j), of curl --http2 and of a browser's library
OFFERS = {
    "jdk": (
        b"Connection: Upgrade, HTTP2-Settings",
        b"HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
        b"Upgrade: h2c",
        b"User-Agent: Java-http-client/17.0.13",
    ),
    "curl": (b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAAP__", b"Connection: Upgrade, HTTP2-Settings"),
    "websocket": (b"Upgrade: websocket", b"Connection: keep-alive, Upgrade", b"Sec-WebSocket-Version: 13"),
}
ASKED = json.dumps({"question": "echo 爪哇", "image": encoded(PICTURE)}).encode()
FORM = form((QUESTION, "", "echo 爪哇".encode()), (IMAGE + '; filename="a.png"', "image/png", PICTURE))
FORM_TYPE = b"multipart/form-data; boundary=X"


@pytest.mark.parametrize("offer", OFFERS)
@pytest.mark.parametrize("framing", ["length", "chunked", "form", "chunked form"])
async def test_an_offer_that_is_not_taken_up_leaves_the_body(api: ApiProcess, offer: str, framing: str) -> None:
    lines, before = OFFERS[offer], api.log
    sent = {
        "length": lambda: post("/chat", ASKED, *lines, close=False),
        "chunked": lambda: chunked("/chat", ASKED, *lines),
        "form": lambda: post("/chat", FORM, *lines, media=FORM_TYPE, close=False),
        "chunked form": lambda: chunked("/chat", FORM, *lines, media=FORM_TYPE),
    }[framing]()
    first, second = (await said(api.url, sent + CLOSING)).split(b"HTTP/1.1 ")[1:]
    assert body_of(first)["answer"] == "爪哇" and body_of(first)["image"] is True
    assert body_of(second) == {"status": "live"} and api.log == before


async def test_every_route_passes_an_offer_over(api: ApiProcess, client: httpx.Client) -> None:
    before, lines = api.log, OFFERS["jdk"]
    talk = answered(ask(client))["conversation_id"].encode()
    painted = await said(api.url, post("/paint", b'{"prompt": "a", "seed": 7}', *lines, close=False) + CLOSING)
    assert body_of(painted.split(b"HTTP/1.1 ")[1])["data"][0]["seed"] == 7
    judged = await said(api.url, post("/v1/moderations", b'{"input": 1, "mask": 1}', *lines, close=False) + CLOSING)
    assert body_of(judged.split(b"HTTP/1.1 ")[1])["error"]["param"] == "input"
    offer = b"".join(line + b"\r\n" for line in lines)
    for request, status in (
        (b"GET /conversations/%b HTTP/1.1\r\nHost: x\r\n" % talk, b"200"),
        (b"DELETE /conversations/%b HTTP/1.1\r\nHost: x\r\n" % talk, b"204"),
        (b"GET /conversations/%b HTTP/1.1\r\nHost: x\r\n" % talk, b"404"),
        (b"GET /jobs/none HTTP/1.1\r\nHost: x\r\n", b"404"),
        (b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n", b"200"),
    ):
        answer = await said(api.url, request + offer + b"\r\n" + CLOSING)
        assert answer.startswith(b"HTTP/1.1 " + status), answer
    assert api.log == before


async def test_a_stream_to_http_1_0_has_no_chunks_and_ends_with_the_connection(api: ApiProcess) -> None:
    body = b'{"question": "stream 3", "stream": true}'
    sent = post("/chat", body, close=False).replace(b"HTTP/1.1", b"HTTP/1.0")
    head, _, events = (await said(api.url, sent)).partition(b"\r\n\r\n")
    assert b"200" in head and b"transfer-encoding" not in head.lower()
    told = sse_events(events.decode())
    assert told[-2][1]["answer"] == "w0 w1 w2 " and told[-1][1] == "[DONE]" and events.endswith(b"data: [DONE]\n\n")
    assert all(line[:1] in b":dei" for line in events.splitlines() if line), "a chunk's size stands between the events"


ALLOWED = {
    "/chat": "POST, OPTIONS",
    "/paint/": "POST, OPTIONS",
    "/conversations/conv-1": "GET, HEAD, PATCH, DELETE, OPTIONS",
    "/jobs/chat-1": "GET, HEAD, DELETE, OPTIONS",
    "/health/ready": "GET, HEAD, OPTIONS",
    "/metrics": "GET, HEAD, OPTIONS",
}


@pytest.mark.parametrize("path", ALLOWED)
def test_head_options_and_allow(client: httpx.Client, path: str) -> None:
    options = client.options(path)
    assert (options.status_code, options.content, options.headers["allow"]) == (204, b"", ALLOWED[path])
    put = client.put(path)
    assert (put.status_code, put.headers["allow"]) == (405, ALLOWED[path])
    head = client.head(path)
    if "HEAD" not in ALLOWED[path]:
        assert (head.status_code, head.content) == (405, b"")
        return
    got = client.get(path)
    assert (head.status_code, head.content) == (got.status_code, b"")
    assert head.headers["content-type"] == got.headers["content-type"]


def test_pages_of_a_named_origin_may_ask_and_read_our_headers(client: httpx.Client) -> None:
    wanted = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    preflight = client.options("/chat", headers={"Origin": ORIGIN, **wanted})
    assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (200, ORIGIN)
    assert "content-type" in preflight.headers["access-control-allow-headers"]
    answer = client.post("/chat", json={"question": "echo x"}, headers={"Origin": ORIGIN})
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert {"location", "retry-after", "x-request-id"} <= set(
        answer.headers["access-control-expose-headers"].split(", ")
    )
    stranger = client.options("/chat", headers={"Origin": "https://evil.example", **wanted})
    assert stranger.status_code == 400 and "access-control-allow-origin" not in stranger.headers


@pytest.mark.parametrize("path", ["/chat", "/chat/", "/viscpm/chat", "/viscpm/chat/"])
def test_slashes_and_the_prefix(client: httpx.Client, path: str) -> None:
    assert answered(client.post(path, json={"question": "echo here"}))["answer"] == "here"
    queued = client.post(path, json={"question": "echo x"}, headers={**WAIT, "Host": "evil.example"})
    assert (queued.status_code, queued.headers["location"]) == (202, f"/viscpm/jobs/{queued.json()['id']}")
    assert client.get(queued.headers["location"]).status_code == 200
    assert "evil" not in queued.text + str(queued.headers)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux: 127.0.0.0/8 is this machine there alone")
@pytest.mark.parametrize(("sender", "prefix"), [("127.0.0.1", "/viscpm"), (PROXY, "/behind")])
def test_forwarded_headers_count_where_the_proxy_is_trusted(api: ApiProcess, sender: str, prefix: str) -> None:
    forwarded = {"X-Forwarded-Prefix": "/behind", "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https"}
    with httpx.Client(base_url=api.url, transport=httpx.HTTPTransport(local_address=sender), timeout=30) as client:
        queued = client.post("/chat", json={"question": "echo x"}, headers={**WAIT, **forwarded})
    assert queued.headers["location"] == f"{prefix}/jobs/{queued.json()['id']}"
    assert "evil" not in queued.text + str(queued.headers)


OTHER_UNICODE: dict[str, Callable[[bytes], bytes]] = {
    "UTF-16": lambda body: body.decode().encode("utf-16"),
    "UTF-16, bare": lambda body: body.decode().encode("utf-16-le"),
    "UTF-32": lambda body: body.decode().encode("utf-32"),
}


@pytest.mark.parametrize("name", OTHER_UNICODE)
def test_other_forms_of_unicode_are_refused_by_name(client: httpx.Client, name: str) -> None:
    body = OTHER_UNICODE[name](ASKED)
    response = client.post("/chat", content=body, headers={"content-type": "application/json"})
    assert refused(response, None) == f"body: is in {name[:6]}, UTF-8 expected"


def test_a_byte_order_mark_is_passed_over(client: httpx.Client) -> None:
    response = client.post("/chat", content=b"\xef\xbb\xbf" + ASKED, headers={"content-type": "application/json"})
    assert answered(response)["answer"] == "爪哇"
