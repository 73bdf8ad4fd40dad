"""Fetching: what is connected to, on whose word, and what comes of hostile origins."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from ipaddress import ip_network
from pathlib import Path

import pytest

from service.core.errors import BlockedUrl, ImageFetchFailed, ServiceError
from service.core.settings import Settings
from service.image_input.fetch import Fetcher
from service.outbound.destinations import Resolver

CERTIFICATE = Path(__file__).with_name("origin.pem")  # of pictures.example.org, its own authority, with its key
NAME = "pictures.example.org"


class Origin:
    """A server on 127.0.0.1. `heads` are the requests it had; each connection is served by `answer`."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.heads: list[bytes] = []
        self.connections = 0


@asynccontextmanager
async def origin(*answers: bytes, hold_s: float = 0.0, drip_s: float = 0.0, tls: bool = False) -> AsyncIterator[Origin]:
    """Says `answers` in turn, one to each request, the last one again and again.

    Args:
        hold_s: before it begins.
        drip_s: after each byte; 0: all at once.
    """
    is_over = asyncio.Event()
    serving: set[asyncio.Task[None]] = set()
    made = Origin(0)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())  # type: ignore[arg-type]
        answer = answers[min(made.connections, len(answers) - 1)]
        made.connections += 1
        with suppress(OSError, asyncio.IncompleteReadError):
            made.heads.append(await reader.readuntil(b"\r\n\r\n"))
            with suppress(TimeoutError):
                await asyncio.wait_for(is_over.wait(), hold_s)
            for piece in [bytes([byte]) for byte in answer] if drip_s else [answer]:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(drip_s)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    context = None
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATE)
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        is_over.set()
        server.close()
        await asyncio.gather(*serving, return_exceptions=True)


@contextmanager
def fetching(
    *ports: int, names: dict[str, list[str]] | Resolver | None = None, tls: bool = False, **settings: object
) -> Iterator[Fetcher]:
    """A fetcher for which 127.0.0.0/24 is public. `names`: addresses, or what looks them up."""

    async def resolve(host: str, port: int) -> list[str]:
        assert isinstance(names, dict), f"{host} was looked up"
        if host not in names:
            raise OSError
        return names[host]

    given: dict[str, object] = {
        "fetch_images": True,
        "fetch_ports": ports or (80,),
        "fetch_allowed_networks": (ip_network("127.0.0.0/24"),),
        "fetch_timeout_s": 2.0,
        "max_body_bytes": 1024,
    }
    fetcher = Fetcher(
        Settings(**{**given, **settings}),  # type: ignore[arg-type]
        resolve=names if callable(names) else resolve,
        tls=ssl.create_default_context(cafile=CERTIFICATE) if tls else None,
    )
    yield fetcher
    fetcher.close()


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"


def redirect(location: str, status: int = 302) -> bytes:
    return f"HTTP/1.1 {status} Moved\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()


async def test_a_body_comes_without_anything_of_ours_going_out(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/")
    setter = b"HTTP/1.1 302 Found\r\nSet-Cookie: a=b\r\nLocation: /again\r\n\r\n"
    async with origin(setter, OK) as server:
        with fetching(server.port, names={NAME: ["127.0.0.1"]}) as fetcher:
            assert await fetcher.fetch(f"http://{NAME}:{server.port}/a?b#c") == b"abc"
    first, second = server.heads
    assert first.startswith(b"GET /a?b HTTP/1.1\r\n") and second.startswith(b"GET /again HTTP/1.1\r\n")
    for head in (first, second):
        fields = dict(line.lower().split(b": ", 1) for line in head.strip().split(b"\r\n")[1:])
        assert set(fields) == {b"host", b"user-agent", b"accept", b"accept-encoding", b"connection"}
        assert fields[b"host"] == f"{NAME}:{server.port}".encode() and fields[b"accept-encoding"] == b"identity"


@pytest.mark.slow
async def test_tls_is_verified_against_the_name_and_not_the_address() -> None:
    names = {NAME: ["127.0.0.1"], "other.example.org": ["127.0.0.1"]}
    async with origin(OK, tls=True) as server:
        with fetching(server.port, names=names, tls=True) as fetcher:
            assert await fetcher.fetch(f"https://{NAME}:{server.port}/") == b"abc"
            for host in ("other.example.org", "127.0.0.1"):
                with pytest.raises(ImageFetchFailed, match="certificate could not be verified"):
                    await fetcher.fetch(f"https://{host}:{server.port}/")
        with fetching(server.port, names=names) as fetcher, pytest.raises(ImageFetchFailed):  # an unknown authority
            await fetcher.fetch(f"https://{NAME}:{server.port}/")
    assert len(server.heads) == 1


@pytest.mark.parametrize(
    "addresses",
    [
        [], ["10.0.0.1"], ["8.8.8.8", "10.0.0.1"], ["8.8.8.8", "::1"], ["::ffff:8.8.8.8"], ["fe80::1%eth0"],
        ["169.254.169.254"], ["127.1.0.1"],
    ],
)  # fmt: skip
async def test_every_address_of_a_name_must_be_public(addresses: list[str]) -> None:
    with fetching(names={NAME: addresses}) as fetcher:
        with pytest.raises(BlockedUrl) as caught:
            await fetcher.fetch(f"http://{NAME}/")
        with pytest.raises(BlockedUrl) as unknown:
            await fetcher.fetch("http://unknown.example.org/")
    assert caught.value.message == unknown.value.message  # nobody learns which names there are inside


async def test_a_name_is_looked_up_once_and_the_checked_address_dialled() -> None:
    """DNS rebinding: public at first, the loopback address of a listener at every later look."""
    asked: list[str] = []

    async def rebind(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["127.9.9.9"]

    async with origin(OK) as server:
        with fetching(server.port, names=rebind) as fetcher:
            assert await fetcher.fetch(f"http://{NAME}:{server.port}/") == b"abc"
            assert asked == [NAME]
            with pytest.raises(BlockedUrl):
                await fetcher.fetch(f"http://{NAME}:{server.port}/")
    assert server.connections == 1


async def test_a_name_that_turns_private_between_two_hops_is_refused() -> None:
    turns = iter((["127.0.0.1"], ["127.9.9.9"]))

    async def rebind(host: str, port: int) -> list[str]:
        return next(turns)

    async with origin(redirect("/again"), OK) as server:
        with fetching(server.port, names=rebind) as fetcher, pytest.raises(BlockedUrl):
            await fetcher.fetch(f"http://{NAME}:{server.port}/")
    assert server.connections == 1


async def test_another_address_is_tried_where_one_does_not_answer() -> None:
    async with origin(OK) as server:
        with fetching(server.port, names={NAME: ["127.0.0.77", "127.0.0.1"]}) as fetcher:
            assert await fetcher.fetch(f"http://{NAME}:{server.port}/") == b"abc"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_three_redirects_are_followed(status: int) -> None:
    async with origin(redirect("/1", status), redirect("2", status), redirect("?3", status), OK) as server:
        with fetching(server.port) as fetcher:
            assert await fetcher.fetch(f"http://127.0.0.1:{server.port}/") == b"abc"
    assert server.connections == 4


async def test_a_fourth_redirect_is_not() -> None:
    async with origin(redirect("/loop")) as server:
        with fetching(server.port) as fetcher, pytest.raises(ImageFetchFailed, match="more than 3"):
            await fetcher.fetch(f"http://127.0.0.1:{server.port}/")
    assert server.connections == 4


@pytest.mark.parametrize(
    "location",
    [
        "http://10.0.0.1/", "http://127.9.9.9/", "http://localhost/", "http://[::1]/", "http://2130706433/",
        "http://169.254.169.254/latest/meta-data/", "http://127.0.0.1:22/", "file:///etc/passwd", "//user@127.0.0.1/",
        "http://inside.example.org/", "gopher://127.0.0.1:6379/_FLUSHALL",
    ],
)  # fmt: skip
async def test_every_hop_is_checked(location: str) -> None:
    async with origin(redirect(location)) as server:
        with (
            fetching(server.port, 80, names={"inside.example.org": ["10.0.0.1"]}) as fetcher,
            pytest.raises(BlockedUrl),
        ):
            await fetcher.fetch(f"http://127.0.0.1:{server.port}/")
    assert server.connections == 1


async def test_https_does_not_lead_to_http() -> None:
    async with origin(OK) as plain, origin(redirect(f"http://127.0.0.1:{plain.port}/"), tls=True) as server:
        with fetching(plain.port, server.port, names={NAME: ["127.0.0.1"]}, tls=True) as fetcher:
            with pytest.raises(BlockedUrl, match="from https to http"):
                await fetcher.fetch(f"https://{NAME}:{server.port}/")
    assert plain.connections == 0 and server.connections == 1


async def test_ports_and_hosts_are_as_configured() -> None:
    async with origin(OK) as server:
        url = f"http://a.{NAME}:{server.port}/"
        names = {f"a.{NAME}": ["127.0.0.1"]}
        for settings in ({}, {"fetch_allowed_hosts": (NAME,)}, {"fetch_allowed_hosts": ("x", f"a.{NAME}")}):
            with fetching(server.port, names=names, **settings) as fetcher:
                assert await fetcher.fetch(url) == b"abc"
        before = server.connections
        for settings in (
            {"fetch_ports": (80, 443)},
            {"fetch_allowed_hosts": ("example.com",)},
            {"fetch_denied_hosts": (NAME,)},
            {"fetch_denied_hosts": ("example.org",), "fetch_allowed_hosts": (NAME,)},
            {"fetch_denied_networks": (ip_network("127.0.0.1/32"),)},
        ):
            with fetching(server.port, names=names, **settings) as fetcher, pytest.raises(BlockedUrl):
                await fetcher.fetch(url)
        assert server.connections == before


def chunked(piece: bytes, count: int) -> bytes:
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + (b"%x\r\n%b\r\n" % (len(piece), piece)) * count


HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "answered 404"),
        (b"HTTP/1.1 206 Partial\r\nContent-Length: 1\r\n\r\nx", "answered 206"),
        (b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n", "answered 302"),
        (HEAD + b"Content-Length: 100000\r\n\r\n", "more than the 1024 bytes"),
        (HEAD + b"Content-Length: 100000\r\n\r\n" + b"x" * 100_000, "more than the 1024 bytes"),
        (HEAD + b"\r\n" + b"x" * 100_000, "more than the 1024 bytes"),
        (chunked(b"x" * 100, 100), "more than the 1024 bytes"),
        (HEAD + b"Content-Length: 50\r\n\r\nx", "could not be read: "),
        (HEAD + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", "could not be read: "),
        (HEAD + b"Content-Length: -1\r\n\r\nx", "could not be read: "),
        (HEAD + b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc", "compressed body"),
        (HEAD + b"Content-Encoding: br, identity\r\nContent-Length: 3\r\n\r\nabc", "compressed body"),
        (HEAD + b"X: " + b"y" * 500_000, "could not be read: "),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 10_000, "could not be read: "),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", "could not be read: "),
        (b"HTTP/1.1 200 OK", "could not be read: "),
        (b"nonsense", "could not be read: its server broke off, or did not answer in HTTP"),
        (b"", "could not be read: "),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 40_000 + OK, "more around the body than of it"),
    ],
    ids=range(19),
)
async def test_what_an_origin_may_do_wrong(answer: bytes, message: str) -> None:
    async with origin(answer) as server:
        with fetching(server.port) as fetcher, pytest.raises(ImageFetchFailed, match=message):
            await fetcher.fetch(f"http://127.0.0.1:{server.port}/")


@pytest.mark.slow
async def test_a_body_in_crumbs_is_refused_and_others_are_not_held_up() -> None:
    longest_s, last_s = 0.0, time.perf_counter()

    async def watch() -> None:
        nonlocal longest_s, last_s
        while True:
            await asyncio.sleep(0.002)
            now_s = time.perf_counter()
            longest_s, last_s = max(longest_s, now_s - last_s), now_s

    async with origin(chunked(b"x", 200_000)) as server:
        with fetching(server.port, max_body_bytes=2**20) as fetcher:
            watcher = asyncio.create_task(watch())
            with pytest.raises(ImageFetchFailed, match="more around"):
                await fetcher.fetch(f"http://127.0.0.1:{server.port}/")
            watcher.cancel()
    assert longest_s < 1.5  # a slow machine's largest so far is 0.52


@pytest.mark.slow
async def test_small_chunks_of_a_sound_body_are_taken() -> None:
    async with origin(chunked(b"x" * 64, 10_000) + b"0\r\n\r\n") as server:
        with fetching(server.port, max_body_bytes=2**20) as fetcher:
            assert await fetcher.fetch(f"http://127.0.0.1:{server.port}/") == b"x" * 640_000


@pytest.mark.slow
async def test_one_deadline_for_lookup_connection_and_body() -> None:
    async def hang(host: str, port: int) -> list[str]:
        await asyncio.sleep(60)
        return []

    began_s = time.monotonic()
    with fetching(names=hang, fetch_timeout_s=0.2) as fetcher, pytest.raises(ImageFetchFailed, match="longer than 0.2"):
        await fetcher.fetch(f"http://{NAME}/")
    async with origin(OK, hold_s=30.0) as server:
        with fetching(server.port, fetch_timeout_s=0.2) as fetcher:
            with pytest.raises(ImageFetchFailed, match="longer than 0.2"):
                await fetcher.fetch(f"http://127.0.0.1:{server.port}/")
    async with origin(HEAD + b"Content-Length: 100\r\n\r\n" + b"x" * 100, drip_s=0.02) as server:
        with fetching(server.port, fetch_timeout_s=0.3) as fetcher:
            with pytest.raises(ImageFetchFailed, match="longer than 0.3"):
                await fetcher.fetch(f"http://127.0.0.1:{server.port}/")
    assert time.monotonic() - began_s < 3.0


async def test_the_systems_resolver() -> None:
    fetcher = Fetcher(Settings(fetch_images=True))
    assert {"127.0.0.1"} & set(await fetcher.destinations.resolve("localhost", 80))
    with pytest.raises(BlockedUrl, match="does not lead to a public address"):
        await fetcher.fetch("http://localhost/")
    with pytest.raises(ServiceError):
        await fetcher.fetch("http://name.invalid/")
    fetcher.close()
