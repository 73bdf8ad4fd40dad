"""Connections to checked addresses, whatever name is asked for, and the bound on what surrounds a body."""

import asyncio
import socket

import httpcore
import pytest

from service.outbound.pinned_connection import PinnedBackend, Traffic, WastefulAnswer
from tests.service.image_input.test_fetch import CERTIFICATE, NAME, OK, origin


async def get(port: int, *addresses: str, host: str = NAME, traffic: Traffic | None = None) -> httpcore.Response:
    backend = PinnedBackend(addresses, traffic or Traffic())
    async with httpcore.AsyncConnectionPool(network_backend=backend) as pool:
        return await pool.request("GET", f"http://{host}:{port}/", extensions={"timeout": {"connect": 2.0}})


async def test_the_address_is_dialled_and_never_the_name() -> None:
    async with origin(OK) as server:
        response = await get(server.port, "127.0.0.1", host="does-not-exist.invalid")
    assert response.content == b"abc"
    assert b"host: does-not-exist.invalid" in server.heads[0].lower()


async def test_addresses_are_tried_in_turn() -> None:
    async with origin(OK) as server:
        response = await get(server.port, "127.0.0.3", "127.0.0.1", "127.0.0.2")  # nobody listens on the others
        assert response.content == b"abc" and server.connections == 1


async def test_when_none_answers_the_last_ones_error_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(httpcore.ConnectError):
        await get(port, "127.0.0.2", "127.0.0.1")


async def test_tls_is_checked_against_the_name_not_the_address() -> None:
    import ssl

    context = ssl.create_default_context(cafile=CERTIFICATE)
    async with origin(OK, tls=True) as server:
        backend = PinnedBackend(["127.0.0.1"], Traffic())
        async with httpcore.AsyncConnectionPool(network_backend=backend, ssl_context=context) as pool:
            assert (await pool.request("GET", f"https://{NAME}:{server.port}/")).content == b"abc"
            with pytest.raises(httpcore.ConnectError, match="certificate"):
                await pool.request("GET", f"https://other.example.org:{server.port}/")


async def test_bytes_are_counted_as_they_come_and_reads_are_small() -> None:
    traffic = Traffic()
    body = b"x" * 100_000
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + body
    async with origin(answer) as server:
        await get(server.port, "127.0.0.1", traffic=traffic)
        assert traffic.received_bytes == len(answer)
        backend = PinnedBackend(["127.0.0.1"], Traffic())
        stream = await backend.connect_tcp(NAME, server.port)
        await stream.write(b"GET / HTTP/1.1\r\n\r\n")
        await asyncio.sleep(0.05)
        assert len(await stream.read(1 << 20)) <= 16_384
        assert stream.get_extra_info("server_addr")[0] == "127.0.0.1"
        await stream.aclose()


def test_what_surrounds_a_body_is_bounded_and_grows_with_it() -> None:
    bare = Traffic()
    for _ in range(9):
        bare.receive(16_384)  # 128 KiB, and the read that may yet be body
    with pytest.raises(WastefulAnswer, match="more around the body than of it"):
        bare.receive(1)

    sound = Traffic()
    for _ in range(1000):
        sound.receive(16_384)
        sound.body_bytes += 16_000  # chunk sizes cost a little
    wasteful = Traffic()
    with pytest.raises(WastefulAnswer):
        for _ in range(1000):
            wasteful.receive(16_384)
            wasteful.body_bytes += 8_192
