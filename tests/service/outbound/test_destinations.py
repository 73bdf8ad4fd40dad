"""What may be asked that somebody named the URL of, and by which field a refusal is told."""

from ipaddress import ip_network

import pytest

from service.core.errors import BlockedUrl
from service.core.settings import Settings
from service.outbound.destinations import Destinations, request_url
from service.outbound.pinned_connection import Traffic
from service.outbound.urls import parse
from tests.service.image_input.test_fetch import OK, origin

NAMES = {"a.example.org": ["8.8.8.8"], "inside.example.org": ["8.8.8.8", "10.0.0.1"], "v6.example.org": ["::1"]}


def made(**settings: object) -> Destinations:
    async def resolve(host: str, port: int) -> list[str]:
        if host not in NAMES:
            raise OSError
        return NAMES[host]

    return Destinations(Settings(**settings), "callback_url", resolve)  # type: ignore[arg-type]


async def test_public_addresses_alone() -> None:
    destinations = made()
    assert await destinations.addresses(parse("https://a.example.org/x")) == ["8.8.8.8"]
    inside = ("http://127.0.0.1/", "http://[::1]/", "http://169.254.169.254/", "http://inside.example.org/",
              "http://v6.example.org/", "http://nowhere.example.org/")  # fmt: skip
    for url in inside:
        with pytest.raises(BlockedUrl, match="callback_url: the URL does not lead to a public address") as caught:
            await destinations.addresses(parse(url))
        assert caught.value.param == "callback_url"
    destinations.close()


async def test_ports_and_hosts_as_the_settings_say() -> None:
    destinations = made(fetch_allowed_hosts=("example.org",), fetch_denied_hosts=("a.example.org",))
    for url, message in (
        ("http://a.example.org:8080/", "port 8080 is not asked from here; allowed: 80, 443"),
        ("http://a.example.org/", "the URL's host is not asked from here"),
        ("http://other.org/", "the URL's host is not asked from here"),
    ):
        with pytest.raises(BlockedUrl, match=message):
            await destinations.addresses(parse(url))
    destinations.close()


async def test_a_connection_goes_to_the_checked_address_whatever_the_name() -> None:
    async with origin(OK) as server:
        destinations = made(fetch_ports=(server.port,), fetch_allowed_networks=(ip_network("127.0.0.0/8"),))
        target = parse(f"http://nowhere.invalid:{server.port}/a?b")
        connection = await destinations.connection(target, ["127.0.0.1"], Traffic())
        async with connection.stream("GET", request_url(target)) as response:
            assert response.status == 200
        await connection.aclose()
        destinations.close()
    assert server.heads[0].startswith(b"GET /a?b HTTP/1.1\r\n")
