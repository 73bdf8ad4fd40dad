"""What HTTP/1.0 gets: bytes of the answer alone, and the end of the connection for its end."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import uvicorn
from fastapi import FastAPI
from starlette.responses import Response, StreamingResponse

from service.core.settings import Settings
from service.process.api_server import bind, config_of, url_of
from tests.service.wire import said


@pytest.fixture
async def url() -> AsyncIterator[str]:
    app = FastAPI()

    @app.get("/stream")
    async def stream() -> Response:
        async def parts() -> AsyncIterator[bytes]:
            for i in range(3):
                yield b"data: %d\n\n" % i
                await asyncio.sleep(0.01)

        return StreamingResponse(parts(), media_type="text/event-stream")

    @app.get("/whole")
    async def whole() -> Response:
        return Response(b"whole")

    @app.get("/nothing")
    async def nothing() -> Response:
        return Response(status_code=204)

    settings = Settings()
    config = config_of(app, settings)
    config.lifespan = "off"
    server = uvicorn.Server(config)
    with bind("127.0.0.1", 0) as listener:
        serving = asyncio.create_task(server.serve([listener]))
        while not server.started:  # noqa: ASYNC110 (uvicorn has no event for it)
            await asyncio.sleep(0.01)
        yield url_of(listener)
        server.should_exit = True
        await serving


@pytest.mark.parametrize("keep", [b"", b"Connection: keep-alive\r\n"])
async def test_a_stream_has_no_chunk_sizes_and_ends_with_its_connection(url: str, keep: bytes) -> None:
    head, _, body = (await said(url, b"GET /stream HTTP/1.0\r\n" + keep + b"\r\n")).partition(b"\r\n\r\n")
    assert body == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"
    assert head.startswith(b"HTTP/1.1 200") and b"transfer-encoding" not in head and b"connection: close" in head


async def test_a_length_is_told_where_it_is_known(url: str) -> None:
    head, _, body = (await said(url, b"GET /whole HTTP/1.0\r\n\r\n")).partition(b"\r\n\r\n")
    assert body == b"whole" and b"content-length: 5" in head
    head, _, body = (await said(url, b"GET /nothing HTTP/1.0\r\n\r\n")).partition(b"\r\n\r\n")
    assert (head[:12], body) == (b"HTTP/1.1 204", b"")


async def test_http_1_1_has_its_chunks(url: str) -> None:
    answer = await said(url, b"GET /stream HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"transfer-encoding: chunked" in head
    assert body.startswith(b"9\r\ndata: 0") and body.endswith(b"\r\n0\r\n\r\n")
