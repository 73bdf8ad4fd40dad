"""A worker's own port: three pages, and clients that are none."""

import asyncio
import socket
from collections.abc import AsyncIterator

import httpx
import pytest

from service.worker.http import WorkerServer


class Worker:
    """What the port tells of."""

    is_ready = False
    is_live = True
    metrics = b"viscpm_jobs_in_hand 1.0\n"


@pytest.fixture
def worker() -> Worker:
    return Worker()


@pytest.fixture
async def server(worker: Worker) -> AsyncIterator[WorkerServer]:
    made = WorkerServer(lambda: worker.metrics, lambda: worker.is_ready, lambda: worker.is_live)
    await made.start("127.0.0.1", 0)
    yield made
    await made.close()


@pytest.fixture
async def client(server: WorkerServer) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=server.url.removesuffix("/metrics"), trust_env=False) as made:
        yield made


async def test_metrics_have_the_content_type_that_prometheus_wants(client: httpx.AsyncClient) -> None:
    for path in ("/metrics", "/metrics?name[]=x"):
        response = await client.get(path)
        assert response.status_code == 200 and response.content == Worker.metrics
        assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


async def test_readiness_and_liveness_follow_the_worker(client: httpx.AsyncClient, worker: Worker) -> None:
    assert (await client.get("/health/live")).status_code == 200
    assert (await client.get("/health/ready")).status_code == 503
    worker.is_ready = True
    assert (await client.get("/health/ready")).status_code == 200
    worker.is_live = False
    assert (await client.get("/health/live")).status_code == 503


async def test_everything_else_says_what_there_is(client: httpx.AsyncClient) -> None:
    missing = await client.get("/")
    assert missing.status_code == 404 and "/metrics" in missing.text
    refused = await client.post("/metrics", content=b"x")
    assert refused.status_code == 405 and "GET" in refused.text


@pytest.mark.parametrize(
    "sent", [b"\r\n\r\n", b"GET\r\n\r\n", b"GET  \r\n\r\n", b"\xff\xfe\r\n\r\n", b"GET /x" + b"y" * 20_000, b"GET /met"]
)
async def test_what_is_no_request_ends_its_connection_and_nothing_else(
    server: WorkerServer, client: httpx.AsyncClient, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    port = httpx.URL(server.url).port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    if b"\r\n\r\n" not in sent:
        writer.write_eof()
    try:
        answer = await asyncio.wait_for(reader.read(), 3)
    except ConnectionResetError:  # closed with some of it unread
        answer = b""
    assert answer == b"" or answer.startswith((b"HTTP/1.1 404", b"HTTP/1.1 405"))
    writer.close()
    assert (await client.get("/health/live")).status_code == 200
    assert caplog.text == ""


@pytest.mark.parametrize("leads_somewhere", [True, False])
async def test_the_url_is_one_that_others_can_reach(
    server: WorkerServer, monkeypatch: pytest.MonkeyPatch, leads_somewhere: bool
) -> None:
    assert server.url.startswith("http://127.0.0.1:") and server.url.endswith("/metrics")

    def look_up(name: str) -> str:  # a machine's own name is not known everywhere
        assert name == socket.gethostname()
        if not leads_somewhere:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return "192.0.2.7"

    monkeypatch.setattr(socket, "gethostbyname", look_up)
    everywhere = WorkerServer(lambda: b"", lambda: True)
    await everywhere.start("0.0.0.0", 0)
    await everywhere.close()
    expected = "192.0.2.7" if leads_somewhere else socket.gethostname().lower()
    assert httpx.URL(everywhere.url).host == expected and everywhere.url.endswith("/metrics")


async def test_a_taken_port_is_an_error_at_start(server: WorkerServer) -> None:
    port = httpx.URL(server.url).port
    assert port is not None
    with pytest.raises(OSError, match="in use"):
        await WorkerServer(lambda: b"", lambda: True).start("127.0.0.1", port)


async def test_closing_twice_or_before_the_start_does_nothing() -> None:
    made = WorkerServer(lambda: b"", lambda: True)
    await made.close()
    await made.start("127.0.0.1", 0)
    await made.close()
    await made.close()
