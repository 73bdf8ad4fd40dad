"""The way to a running service: where it is, what its answers and errors mean.

Proxies of the environment are for what is far: a loopback or private address is asked directly, whatever NO_PROXY says.
"""

import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from types import TracebackType
from typing import Any, Self

import httpx

from service.client.exit_codes import CommandError, ExitCode, UsageError, exit_code_of
from service.core.settings import Settings

_UNSET = "unset it, or name this host in NO_PROXY"
_TIMEOUT = httpx.Timeout(5.0, read=900.0)  # longer than any job's deadline


def url_of(settings: Settings, flag: str | None) -> str:
    """The service's, by the flag, VISCPM_URL, or where this machine's own would listen."""
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.host, settings.host)
    return flag or settings.url or f"http://{host}:{settings.port}"


class Service:
    """One service. What goes wrong is a CommandError of one line; close it, or use it as a context."""

    def __init__(self, url: str, api_key: str = "") -> None:
        options = _client_options(url, api_key)
        with _proxies_usable():
            # A transport of its own keeps httpx from the environment's proxies, and not from its authorities
            transport = None if proxy_of(httpx.URL(url)) else httpx.HTTPTransport()
            self.client = httpx.Client(transport=transport, **options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.client.close()

    def get(self, path: str, member: str, **query: str | int | None) -> dict[str, Any]:
        """The answer, which has `member`."""
        return self.request(
            "GET", path, member, params={name: value for name, value in query.items() if value is not None}
        )

    def post(self, path: str, body: object, member: str, **headers: str) -> dict[str, Any]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.request("POST", path, member, json=body, headers=named)

    def request(self, method: str, path: str, member: str, **options: Any) -> dict[str, Any]:
        """The answer, which has `member`; empty where it has no body."""
        try:
            response = self.client.request(method, path, **options)
        except httpx.HTTPError as error:
            raise unreachable(self.client.base_url, path, error) from None
        return {} if response.status_code == 204 else answer_in(response, member)


def open_async(url: str, api_key: str = "", num_connections: int = 100) -> httpx.AsyncClient:
    """For many requests at once. Raises UsageError."""
    options = _client_options(url, api_key)
    limits = httpx.Limits(max_connections=num_connections, max_keepalive_connections=num_connections)
    with _proxies_usable():
        transport = None if proxy_of(httpx.URL(url)) else httpx.AsyncHTTPTransport(limits=limits)
        return httpx.AsyncClient(transport=transport, limits=limits, **options)


def _client_options(url: str, api_key: str) -> dict[str, Any]:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise UsageError(f"{url} is no URL: {error}") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise UsageError(f"{url} is no URL: it must begin with http:// or https:// and name a host")
    headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
    return {"base_url": url, "timeout": _TIMEOUT, "headers": headers}


@contextmanager
def _proxies_usable() -> Iterator[None]:
    try:
        yield
    except (ImportError, ValueError) as error:  # SOCKS needs a package that is not ours; a scheme that is none
        raise UsageError(f"the proxy of the environment cannot be used: {_line(error)}; {_UNSET}") from None


def answer_in(response: httpx.Response, member: str) -> dict[str, Any]:
    """A response's JSON. Raises CommandError for what is an error, or from another service."""
    try:
        answer: Any = response.json()
    except ValueError:
        raise CommandError(
            f"{response.url} answered {response.status_code} with no JSON: not this service?",
            status=response.status_code,
        ) from None
    told = answer.get("error" if response.is_error else member) if isinstance(answer, dict) else None
    if told is None or (response.is_error and not isinstance(told, dict)):
        raise CommandError(
            f"{response.url} answered {response.status_code} with other JSON: not this service?",
            status=response.status_code,
        )
    if response.is_error:
        raise error_of(told, response.status_code, _retry_after_s(response))
    return dict(answer)


def error_of(told: dict[str, Any], status: int = 0, retry_after_s: float = 0.0) -> CommandError:
    """Of an error object as the service tells it; without a status where it came in a stream."""
    code = str(told.get("code"))
    begin = f"{status} {code}" if status else code
    return CommandError(
        f"{begin}: {told.get('message')}",
        exit_code_of(status, code),
        code=code,
        status=status,
        retry_after_s=retry_after_s,
    )


def unreachable(base_url: httpx.URL, path: str, error: httpx.HTTPError) -> CommandError:
    """Of a request that got no answer."""
    proxy = proxy_of(base_url)
    advice = f"asked through the proxy {without_password(proxy)}; {_UNSET}" if proxy else "is `viscpm serve` running?"
    what = _line(error) or "the connection broke off"
    return CommandError(f"{str(base_url).rstrip('/')}{path}: {what}; {advice}", ExitCode.UNREACHABLE)


def _retry_after_s(response: httpx.Response) -> float:
    value = response.headers.get("retry-after", "")
    return float(value) if value.isascii() and value.isdigit() else 0.0


def proxy_of(url: httpx.URL) -> str:
    """The proxy that the environment names for this URL; empty where it is asked directly."""
    proxies = urllib.request.getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all") or ""
    return "" if not proxy or urllib.request.proxy_bypass(url.host) or is_near(url.host) else proxy


def is_near(host: str) -> bool:
    """Whether all addresses of a host are of this machine or of private networks."""
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):  # no name that is known here: a proxy may know it
        return False
    return bool(found) and not any(ip_address(address).is_global for address in found)


def without_password(proxy: str) -> str:
    scheme, separator, rest = proxy.rpartition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


def _line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")
