"""The way to a service: proxies, addresses, and what answers of other services are told as."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import pytest

from service.client.connection import Service, answer_in, is_near, open_async, proxy_of, url_of, without_password
from service.client.exit_codes import CommandError, ExitCode, UsageError
from service.core.settings import Settings


class _Service(BaseHTTPRequestHandler):
    """Answers whatever it is told to; keeps what it was asked."""

    asked: list[tuple[str, str]] = []
    status, body = 200, b'{"id": "x"}'

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers.get("authorization", "")))
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.body)))
        self.send_header("Retry-After", "3")
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(_Service, "asked", [])
    with HTTPServer(("127.0.0.1", 0), _Service) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.slow
def test_a_service_is_asked_with_its_key(service: str) -> None:
    with Service(service, "vk-1") as asked:
        assert asked.get("/x", "id", limit=3, after=None) == {"id": "x"}
    with Service(f"{service}/below") as asked:
        asked.get("/x", "id")
    assert _Service.asked == [("/x?limit=3", "Bearer vk-1"), ("/below/x", "")]


async def test_many_requests_go_the_same_way(service: str) -> None:
    async with open_async(service, "vk-1", 2) as client:
        assert answer_in(await client.get("/x"), "id") == {"id": "x"}
    assert _Service.asked == [("/x", "Bearer vk-1")]


def test_a_service_is_named_by_flag_then_variables() -> None:
    settings = Settings(url="http://far:1", host="0.0.0.0", port=9)
    assert url_of(settings, "http://flag") == "http://flag"
    assert url_of(settings, None) == "http://far:1"
    assert url_of(Settings(host="0.0.0.0", port=9), None) == "http://127.0.0.1:9"
    assert url_of(Settings(host="::", port=9), None) == "http://[::1]:9"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://[::1", "Invalid"),
        ("http://127.0.0.1:many", "Invalid port"),
        ("127.0.0.1:8000", "is no URL"),
        ("ftp://x", "must begin with http"),
        ("http://", "name a host"),
    ],
)
def test_a_url_that_is_none_is_usage(url: str, message: str) -> None:
    for way in (Service, open_async):
        with pytest.raises(UsageError, match=message) as raised:
            way(url)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (404, b'{"detail":"Not Found"}', "with other JSON: not this service?"),
        (400, b'{"error":"no"}', "not this service?"),
        (200, b'"hello"', "not this service?"),
        (200, b"[1]", "not this service?"),
        (200, b'{"hello": 1}', "not this service?"),
        (502, b"<html>", "answered 502 with no JSON: not this service?"),
        (503, b'{"error":{"code":"draining","message":"ask again"}}', "^503 draining: ask again"),
    ],
)
def test_another_services_answer_is_named_as_one(
    service: str, status: int, body: bytes, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Service, "status", status)
    monkeypatch.setattr(_Service, "body", body)
    with Service(service) as asked, pytest.raises(CommandError, match=message) as raised:
        asked.get("/x", "id")
    assert raised.value.status == status and "\n" not in str(raised.value)
    if b"draining" in body:
        assert (raised.value.code, raised.value.retry_after_s, raised.value.exit_code) == ("draining", 3.0, 6)


def test_nobody_there_is_unreachable() -> None:
    with Service("http://127.0.0.1:9") as nobody, pytest.raises(CommandError) as raised:
        nobody.get("/x", "id")
    assert raised.value.exit_code == ExitCode.UNREACHABLE
    assert str(raised.value).startswith("http://127.0.0.1:9/x: ") and "is `viscpm serve` running?" in str(raised.value)


PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
FAR = "http://192.88.99.7:8000"  # a global address, which nobody has


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "socks5://127.0.0.1:9", "none-such://x"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_what_is_near_is_asked_directly(service: str, environment: pytest.MonkeyPatch, proxy: str, host: str) -> None:
    for name in ("http_proxy", "all_proxy"):
        environment.setenv(name, proxy)
    with Service(service.replace("127.0.0.1", host)) as asked:
        assert asked.get("/x", "id") == {"id": "x"}


@pytest.mark.parametrize(
    ("proxy", "exit_code", "message"),
    [
        ("socks5://127.0.0.1:9", 2, "the proxy of the environment cannot be used: Using SOCKS proxy"),
        ("none-such://x", 2, "the proxy of the environment cannot be used: "),
        (
            "http://user:secret@127.0.0.1:9",
            4,
            "/x: [Errno 111] Connection refused; asked through the proxy http://127.0.0.1:9",
        ),
    ],
)
def test_a_proxy_that_fails_is_one_line(
    environment: pytest.MonkeyPatch, proxy: str, exit_code: int, message: str
) -> None:
    environment.setenv("all_proxy", proxy)
    with pytest.raises(CommandError) as raised, Service(FAR) as far:
        far.get("/x", "id")
    told = str(raised.value)
    assert raised.value.exit_code == exit_code
    assert message in told and "NO_PROXY" in told and "\n" not in told and "secret" not in told


def test_what_is_far_is_asked_through_the_proxy(environment: pytest.MonkeyPatch, service: str) -> None:
    """The service as a proxy: it is asked for the whole address, and answers as itself."""
    environment.setenv("http_proxy", service)
    with Service(FAR) as far:
        assert far.get("/x", "id") == {"id": "x"}
    assert _Service.asked[-1][0] == f"{FAR}/x"
    environment.setenv("no_proxy", "192.88.99.7")
    assert proxy_of(httpx.URL(FAR)) == ""


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("localhost", True),
        ("10.1.2.3", True),
        ("192.168.0.9", True),
        ("fd00::1", True),
        ("192.88.99.7", False),
        ("no-such-host.invalid", False),
        ("a" * 70 + ".x", False),
    ],
)
def test_near_is_what_no_proxy_reaches(host: str, expected: bool) -> None:
    assert is_near(host) is expected


def test_a_proxys_password_is_not_told() -> None:
    assert without_password("http://user:secret@host:1") == "http://host:1"
