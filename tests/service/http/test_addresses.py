"""Methods, slashes, prefixes, what proxies say, and pages of other origins: against the server of `viscpm api`."""

from ipaddress import ip_network
from typing import Any

import pytest

from service.core.settings import Settings
from service.http.addresses import EXPOSED, Addresses, absolute_base
from tests.service.web import Service, assert_error, encoded, serving
from tests.service.wire import post, said

LOCAL = (ip_network("127.0.0.0/8"),)
WAIT = {"Prefer": "respond-async"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/chat", "POST, OPTIONS"),
        ("/paint/", "POST, OPTIONS"),
        ("/v1/moderations", "POST, OPTIONS"),
        ("/conversations/conv-1", "GET, HEAD, PATCH, DELETE, OPTIONS"),
        ("/conversations/import", "POST, OPTIONS"),
        ("/jobs/chat-1", "GET, HEAD, DELETE, OPTIONS"),
        ("/jobs/chat-1/events", "GET, HEAD, OPTIONS"),
        ("/health/live", "GET, HEAD, OPTIONS"),
        ("/metrics", "GET, HEAD, OPTIONS"),
        ("/openapi.json", "GET, HEAD, OPTIONS"),
    ],
)
async def test_every_method_of_a_path_is_told(service: Service, path: str, allowed: str) -> None:
    options = await service.client.options(path)
    assert (options.status_code, options.content, options.headers["allow"]) == (204, b"", allowed)
    refused = await service.client.put(path)
    error = assert_error(refused, 405, "method_not_allowed")
    assert refused.headers["allow"] == allowed and "PUT" in error["message"] and allowed in error["message"]
    assert "x-request-id" in refused.headers and "x-request-id" in options.headers


async def test_a_path_that_is_none_has_no_methods(service: Service) -> None:
    for method in ("OPTIONS", "GET", "PATCH"):
        assert_error(await service.client.request(method, "/nowhere"), 404, "not_found")


@pytest.mark.slow
async def test_head_is_get_without_its_body(service: Service) -> None:
    talk = (await service.ask("echo head")).json()
    for path in ("/health/live", "/v2", f"/conversations/{talk['conversation_id']}", "/openapi.json"):
        got, head = await service.client.get(path), await service.client.head(path)
        assert (head.status_code, head.content) == (200, b""), path
        assert head.headers["content-type"] == got.headers["content-type"]
        assert head.headers["content-length"] == got.headers["content-length"]
    assert (await service.client.head("/jobs/none")).status_code == 404
    assert (await service.client.head("/chat")).status_code == 405


@pytest.mark.slow
async def test_head_of_a_stream_ends_at_once_and_its_job_goes_on(service: Service) -> None:
    job = (await service.client.post("/chat", json={"question": "stream 300"}, headers=WAIT)).json()
    head = b"HEAD /jobs/%b/events HTTP/1.1\r\nHost: x\r\n\r\n" % job["id"].encode()
    answer = await said(service.url, head + b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    first, second = answer.split(b"HTTP/1.1 200 ")[1:]
    assert b"text/event-stream" in first and first.endswith(b"\r\n\r\n") and second.endswith(b'{"status":"live"}')
    events = (await service.client.get(f"/jobs/{job['id']}/events")).text
    assert events.endswith("data: [DONE]\n\n") and '"answer"' in events


async def test_a_slash_at_the_end_is_passed_over(service: Service) -> None:
    answer = await service.client.post("/chat/", json={"question": "echo slash"})
    assert (answer.status_code, answer.json()["answer"]) == (200, "slash")
    assert (await service.client.get("/health/live/")).status_code == 200
    assert_error(await service.client.get("/chat//"), 404, "not_found")


@pytest.mark.slow
@pytest.mark.parametrize("sent_below", ["", "/under/a"])
async def test_a_prefix_is_in_every_place_that_an_answer_points_to(settings: Settings, sent_below: str) -> None:
    async with serving(settings.model_copy(update={"root_path": "/under/a"})) as service:
        await service.ready()
        queued = await service.client.post(f"{sent_below}/chat/", json={"question": "echo below"}, headers=WAIT)
        assert (queued.status_code, queued.headers["location"]) == (202, f"/under/a/jobs/{queued.json()['id']}")
        assert (await service.client.get(queued.headers["location"])).status_code == 200
        document = (await service.client.get(f"{sent_below}/openapi.json")).json()
        assert document["servers"] == [{"url": "/under/a"}]


@pytest.mark.slow
@pytest.mark.parametrize(("trusted", "prefix"), [((), ""), ((ip_network("192.0.2.0/24"),), ""), (LOCAL, "/behind")])
async def test_proxies_are_believed_where_they_are_trusted(settings: Settings, trusted: Any, prefix: str) -> None:
    headers = {"X-Forwarded-Prefix": "/behind/", "X-Forwarded-Host": "evil.example", "Host": "evil.example", **WAIT}
    async with serving(settings.model_copy(update={"trusted_proxies": trusted})) as service:
        await service.ready()
        queued = await service.client.post("/chat", json={"question": "echo x"}, headers=headers)
        assert queued.headers["location"] == f"{prefix}/jobs/{queued.json()['id']}"
        assert "evil" not in queued.text + str(queued.headers)
        strange = {**headers, "X-Forwarded-Prefix": "//evil.example"}
        queued = await service.client.post("/chat", json={"question": "echo y"}, headers=strange)
        assert queued.headers["location"] == f"/jobs/{queued.json()['id']}"


@pytest.mark.parametrize(
    ("peer", "expected"),
    [("127.0.0.1", ("203.0.113.9", "https")), ("198.51.100.1", ("198.51.100.1", "http")), ("", ("", "http"))],
)
async def test_the_client_is_the_last_hop_that_is_no_proxy_of_ours(peer: str, expected: tuple[str, str]) -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(((scope["client"] or [""])[0], scope["scheme"]))

    headers = [(b"x-forwarded-for", b"1.2.3.4, 203.0.113.9, 127.0.0.9"), (b"x-forwarded-proto", b"https")]
    scope = {"type": "http", "method": "GET", "path": "/", "scheme": "http", "headers": headers}
    scope["client"] = (peer, 1) if peer else None
    await Addresses(app, [], "", LOCAL)(scope, None, None)  # type: ignore[arg-type]
    assert seen == [expected]


@pytest.mark.slow
async def test_no_answer_is_built_from_host(service: Service) -> None:
    for path in ("/chat/", "/chat", "/health/live/", "/", "/openapi.json"):
        for sent in (post(path, b"{}"), b"GET %b HTTP/1.1\r\nHost: evil\r\nConnection: close\r\n\r\n" % path.encode()):
            answer = await said(service.url, sent.replace(b"Host: x", b"Host: evil"))
            assert b"evil" not in answer and not answer.startswith(b"HTTP/1.1 3")


ORIGIN = "https://chat.example.org"
PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type,x-request-id"}


async def test_pages_of_other_origins_may_ask_where_they_are_named(settings: Settings) -> None:
    async with serving(settings.model_copy(update={"cors_origins": (ORIGIN,)})) as service:
        await service.ready()
        allowed = await service.client.options("/chat", headers={"Origin": ORIGIN, **PREFLIGHT})
        assert allowed.status_code == 200 and allowed.headers["access-control-allow-origin"] == ORIGIN
        assert "DELETE" in allowed.headers["access-control-allow-methods"]
        assert "x-request-id" in allowed.headers["access-control-allow-headers"]
        asked = await service.client.post(
            "/chat", json={"question": "echo page", "image": encoded()}, headers={"Origin": ORIGIN}
        )
        refused = await service.client.post("/chat", json={}, headers={"Origin": ORIGIN})
        for answer, status in ((asked, 200), (refused, 400)):
            assert answer.status_code == status and answer.headers["access-control-allow-origin"] == ORIGIN
            assert set(answer.headers["access-control-expose-headers"].split(", ")) == set(EXPOSED)
        stranger = {"Origin": "https://evil.example"}
        assert (await service.client.options("/chat", headers={**stranger, **PREFLIGHT})).status_code == 400
        assert "access-control-allow-origin" not in (await service.client.get("/v2", headers=stranger)).headers
        assert (await service.client.options("/chat")).headers["allow"] == "POST, OPTIONS"


async def test_by_default_no_other_origin_is_told_anything(service: Service) -> None:
    for answer in (
        await service.client.options("/chat", headers={"Origin": ORIGIN, **PREFLIGHT}),
        await service.client.get("/health/live", headers={"Origin": ORIGIN}),
    ):
        assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    ("client", "server", "headers", "base"),
    [
        ("127.0.0.1", ("127.0.0.1", 8000), [], "http://127.0.0.1:8000/viscpm"),
        ("127.0.0.1", ("127.0.0.1", 8000), [(b"host", b"evil.example")], "http://127.0.0.1:8000/viscpm"),
        ("::1", ("::1", 8000), [], "http://[::1]:8000/viscpm"),
        ("10.0.0.2", ("10.0.0.1", 8000), [], None),
        ("127.0.0.1", ("10.0.0.1", 8000), [], None),
        ("127.0.0.1", ("/run/api.sock", None), [], None),
        ("127.0.0.1", None, [], None),
        ("", ("127.0.0.1", 8000), [], None),
        *[("127.0.0.1", ("127.0.0.1", 8000), [(name, b"x")], None) for name in (b"forwarded", b"via", b"x-real-ip")],
        ("127.0.0.1", ("127.0.0.1", 8000), [(b"x-forwarded-host", b"evil.example")], None),
    ],
)
def test_a_whole_address_is_known_on_this_machine_alone(
    client: str, server: Any, headers: list[tuple[bytes, bytes]], base: str | None
) -> None:
    scope = {
        "type": "http",
        "scheme": "http",
        "root_path": "/viscpm",
        "client": (client, 1) if client else None,
        "server": server,
        "headers": headers,
    }
    assert absolute_base(scope, "") == base
    assert absolute_base(scope, "https://api.example.org") == "https://api.example.org"
