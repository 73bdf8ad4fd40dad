"""URLs that requests name, read strictly: one notation for each host, no credentials, nothing read in two ways."""

import re
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

import httpx

from service.core.errors import BlockedUrl

MAX_URL_CHARS = 4096
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]{0,15}):", re.IGNORECASE)
_DEFAULT_PORTS = {"http": 80, "https": 443}

_URL = re.compile(r"(https?)://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)
_AMBIGUOUS = re.compile(r"[\x00-\x20\x7f-\x9f\\\ud800-\udfff]|\s")  # dropped, turned or refused, depending on who reads
_AUTHORITY = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^\[\]@:%]+))(?::([0-9]{1,5}))?", re.IGNORECASE)
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")  # a last label that makes resolvers read the host as an IPv4 address
_OTHER_DOTS = re.compile("[。．｡]")  # which internationalised names may have for a full stop


class Target(NamedTuple):
    """Where to send a request, and what to ask for there."""

    scheme: str
    host: str  # lower-case ASCII: a name or an address, IPv6 without brackets
    port: int
    path: bytes  # with the query; percent-encoded

    @property
    def authority(self) -> str:
        """As the Host header wants it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def is_address(self) -> bool:
        return ":" in self.host or self.host[-1].isdigit()  # no name ends in a number, see below


class _Unreadable(Exception):
    """Not a URL that may be asked for, and why."""


def parse(text: str, param: str = "image") -> Target:
    """Raises BlockedUrl: not an http(s) URL, or one that could be read in more than one way.

    Args:
        param: the request's field for the URL, which the error names.
    """
    try:
        return _target(text)
    except _Unreadable as error:
        raise BlockedUrl(f"{param}: {error}", param=param) from None


def redirected(target: Target, location: bytes) -> Target:
    """Where the `Location` of a picture's URL leads. Raises BlockedUrl, also where it leads from https to http."""
    try:
        return _redirected(target, location)
    except _Unreadable as error:
        raise BlockedUrl(f"image: {error}", param="image") from None


def is_below(host: str, parents: tuple[str, ...]) -> bool:
    """Whether a host is one of `parents` or belongs to one."""
    return any(host == parent or host.endswith(f".{parent}") for parent in parents)


def _target(text: str) -> Target:
    if len(text) > MAX_URL_CHARS:
        raise _Unreadable(f"the URL has {len(text)} characters, at most {MAX_URL_CHARS} are allowed")
    match = _URL.fullmatch(text)
    if match is None:
        raise _Unreadable(f"only http and https URLs are asked, got {_scheme(text) or 'none'}")
    if odd := _AMBIGUOUS.search(text):
        where = f"character {odd.start() + 1} is U+{ord(odd[0]):04X}"
        raise _Unreadable(f"the URL has white space, a control character or a backslash: {where}; percent-encode it")
    scheme, authority = match[1].lower(), match[2]
    if "@" in authority:
        raise _Unreadable("a URL with credentials is not asked; allowed: a host, and a port")
    parts = _AUTHORITY.fullmatch(authority)
    if parts is None:
        raise _Unreadable(
            "the URL has no readable host; allowed: a name or an address (IPv6 in brackets), and a port of digits"
        )
    host = _address(parts[1]) if parts[1] else _name(parts[2])
    try:
        path = httpx.URL(f"http://host{match[3]}").raw_path
    except (httpx.InvalidURL, UnicodeError, ValueError):
        raise _Unreadable("the URL's path is not readable; percent-encode it") from None
    return Target(scheme, host, int(parts[3]) if parts[3] else _DEFAULT_PORTS[scheme], path)


def _redirected(target: Target, location: bytes) -> Target:
    origin = httpx.URL(f"{target.scheme}://{target.authority}").copy_with(raw_path=target.path)
    try:
        text = location.decode()
        joined = text if _URL.match(text) else str(origin.join(text))
    except (httpx.InvalidURL, UnicodeError, ValueError):
        raise _Unreadable("the URL redirects to something that is not a URL") from None
    following = _target(joined.partition("#")[0])
    if (target.scheme, following.scheme) == ("https", "http"):
        raise _Unreadable("the URL redirects from https to http")
    return following


def _scheme(text: str) -> str:
    found = _SCHEME.match(text)
    return "" if found is None else found[1]


def _address(text: str) -> str:
    try:
        return str(IPv6Address(text))
    except ValueError:
        raise _Unreadable("the URL's host is not an IPv6 address") from None


def _name(text: str) -> str:
    """A name's ASCII form, or an IPv4 address in its one plain notation."""
    host = text.lower()
    if not host.isascii():
        if _OTHER_DOTS.search(host):
            raise _Unreadable("the URL's host has a full stop that is not ASCII")
        try:
            host = httpx.URL(f"http://{host}").raw_host.decode("ascii")  # IDNA 2008: nothing is folded into ASCII
        except (httpx.InvalidURL, UnicodeError, ValueError):
            raise _Unreadable("the URL's host is not an internationalised name") from None
    labels = host.split(".")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise _Unreadable("the URL's host is not a name: labels of a-z 0-9 - _ between single dots are allowed")
    if _NUMBER.fullmatch(labels[-1]):
        try:
            return str(IPv4Address(host))
        except ValueError:
            raise _Unreadable("the URL's host is a number; an IPv4 address has four decimal parts") from None
    return host
