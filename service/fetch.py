"""Pictures from http(s) URLs: one GET to a checked public address.

Covered: scheme and port, every resolved address must be globally routable, the checked address is the one dialled,
no redirects, cookies, credentials or proxies, a byte cap while reading, one deadline for all of it.
"""

import asyncio
import ipaddress
import socket

import httpx

from service.errors import BlockedUrl, ImageFetchFailed

_PORTS = {"http": 80, "https": 443}
_NAT64 = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48"))


async def fetch(url: str, max_bytes: int, timeout_s: float) -> bytes:
    """The body behind a URL.

    Raises:
        BlockedUrl: a URL that the service does not connect to.
        ImageFetchFailed: its server did not give a body of at most `max_bytes` within `timeout_s`.
    """
    try:
        async with asyncio.timeout(timeout_s):
            return await _get(_parse(url), max_bytes)
    except TimeoutError:
        raise ImageFetchFailed(f"image: the URL's server took longer than {timeout_s:g} s", param="image") from None
    except httpx.HTTPError as error:
        raise ImageFetchFailed(f"image: the URL could not be read ({type(error).__name__})", param="image") from None


def is_public(address: str) -> bool:
    """Whether an address is reachable by anyone, mapped and translated forms included."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address):
        if any(parsed in network for network in _NAT64) or parsed.sixtofour or parsed.teredo:
            return False
        if parsed.ipv4_mapped is not None:
            return is_public(str(parsed.ipv4_mapped))
    return parsed.is_global and not parsed.is_multicast


def _parse(url: str) -> httpx.URL:
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, UnicodeError, ValueError):
        raise BlockedUrl("image: not a URL", param="image") from None
    if parsed.scheme not in _PORTS or not parsed.host:
        raise BlockedUrl("image: only http and https URLs are fetched", param="image")
    if parsed.port not in (None, _PORTS[parsed.scheme]):
        raise BlockedUrl(f"image: port {parsed.port} is not fetched from; only 80 and 443", param="image")
    if parsed.userinfo:
        raise BlockedUrl("image: a URL with credentials is not fetched", param="image")
    return parsed


async def _get(url: httpx.URL, max_bytes: int) -> bytes:
    address = await _resolve(url.host, _PORTS[url.scheme])
    async with (
        httpx.AsyncClient(follow_redirects=False, trust_env=False, timeout=None) as client,
        client.stream(
            "GET",
            url.copy_with(host=address),
            # identity: a compressed body could grow past the cap in one read
            headers={"Host": url.netloc.decode("ascii"), "Accept": "image/*", "Accept-Encoding": "identity"},
            extensions={"sni_hostname": url.host},
        ) as response,
    ):
        if response.status_code != httpx.codes.OK:
            raise ImageFetchFailed(f"image: the URL's server answered {response.status_code}", param="image")
        data = bytearray()
        async for piece in response.aiter_raw():
            data += piece
            if len(data) > max_bytes:
                raise ImageFetchFailed(f"image: the URL holds more than the {max_bytes} bytes allowed", param="image")
        return bytes(data)


async def _resolve(host: str, port: int) -> str:
    """The first address of a host, all of which must be public."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise ImageFetchFailed("image: the URL's host is not known", param="image") from None
    addresses = [str(entry[4][0]) for entry in found]
    if not addresses or not all(is_public(address) for address in addresses):
        raise BlockedUrl("image: the URL does not lead to a public address", param="image")
    return addresses[0]
