"""How requests find their route: prefixes and slashes, what proxies say of clients, and every method that a path has.

No answer is built from `Host`: what an answer points to is a path, below the prefix that clients see. Where a client
needs a whole address it is VISCPM_PUBLIC_URL's, or on this machine that of the socket which the client reached.
"""

import re
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address

from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.core.errors import MethodNotAllowed
from service.http.error_handlers import OUTCOME, error_response

Networks = Sequence[IPv4Network | IPv6Network]

# Headers of ours that pages of other origins may read
EXPOSED = (
    "idempotent-replayed",
    "location",
    "openai-processing-ms",
    "preference-applied",
    "retry-after",
    "x-ignored-parameters",
    "x-job-id",
    "x-ratelimit-limit-requests",
    "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-requests",
    "x-ratelimit-reset-tokens",
    "x-request-id",
    "x-score",
    "x-seed",
)
METHODS = ("GET", "HEAD", "POST", "PATCH", "DELETE", "OPTIONS")
_PASSED_ON = (b"forwarded", b"via", b"x-real-ip")
_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)*")


class Addresses:
    """Answers OPTIONS and what a path has no method for; HEAD is GET without its body.

    Args:
        root_path: prefix under which clients see the service, with or without which requests may come.
        trusted: networks of proxies whose `X-Forwarded-…` headers count.
    """

    def __init__(self, app: ASGIApp, routes: Sequence[BaseRoute], root_path: str, trusted: Networks) -> None:
        self._app = app
        self._routes = routes
        self._root_path = root_path
        self._trusted = trusted
        plain = [route for route in routes if isinstance(route, Route) and not route.param_convertors]
        self._plain = {(one.path, method) for one in plain for method in one.methods or () if method != "HEAD"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        root_path = self._root_path
        if self._trusted and is_within(_peer(scope), self._trusted):
            root_path = _forwarded(scope, self._trusted) or root_path
        path = scope["path"]
        if path.startswith(f"{root_path}/"):
            path = path[len(root_path) :]
        elif path == root_path:
            path = "/"
        if len(path) > 1:
            path = path.removesuffix("/")
        scope["root_path"], scope["path"] = root_path, root_path + path
        if (path, scope["method"]) in self._plain:  # most requests, and nothing to find out about them
            await self._app(scope, receive, send)
            return
        matched = [route for route in self._routes if isinstance(route, Route) and route.path_regex.match(path)]
        matched = [route for route in matched if not route.param_convertors] or matched  # its own, before any {id}
        methods = _methods(matched)
        if matched and (scope["method"] == "OPTIONS" or scope["method"] not in methods):
            scope["route"] = matched[0]
            await _answer(scope, methods)(scope, receive, send)
        elif scope["method"] == "HEAD":
            await self._without_body(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _without_body(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As GET up to the head; a stream ends there."""
        has_ended = False

        async def send_head(message: Message) -> None:
            nonlocal has_ended
            if has_ended:
                return
            scope["method"] = "HEAD"  # the server sends no body for it
            await send(message)
            if message["type"] == "http.response.start":
                has_ended = True
                await send({"type": "http.response.body", "body": b"", "more_body": False})

        scope["method"] = "GET"
        await self._app(scope, receive, send_head)


def is_within(address: str, networks: Networks) -> bool:
    try:
        return any(ip_address(address) in network for network in networks)
    except ValueError:
        return False


def absolute_base(scope: Scope, public_url: str) -> str | None:
    """What stands before all paths for this client, without a slash at the end; None: nobody knows.

    Args:
        public_url: of VISCPM_PUBLIC_URL; empty: only a client of this machine, behind no proxy that says so, is told
            the address that it reached.
    """
    if public_url:
        return public_url
    is_passed_on = any(name.startswith(b"x-forwarded-") or name in _PASSED_ON for name, _ in scope["headers"])
    host, port = scope.get("server") or ("", None)
    if is_passed_on or port is None or not (_is_loopback(_peer(scope)) and _is_loopback(host)):
        return None
    return f"{scope['scheme']}://{f'[{host}]' if ':' in host else host}:{port}{scope['root_path']}"


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False


def _methods(matched: Sequence[Route]) -> list[str]:
    """All that a path takes, in the order of METHODS."""
    taken = {method for route in matched for method in route.methods or ()}
    taken |= {"OPTIONS", *(["HEAD"] if "GET" in taken else [])}
    return [method for method in METHODS if method in taken]


def _answer(scope: Scope, methods: Sequence[str]) -> Response:
    """To OPTIONS, and to what the path has no route for."""
    allowed = ", ".join(methods)
    if scope["method"] == "OPTIONS":
        return Response(status_code=204, headers={"allow": allowed})
    scope[OUTCOME] = MethodNotAllowed.code
    refused = error_response(MethodNotAllowed(f"method {scope['method'][:20]} not allowed here; allowed: {allowed}"))
    refused.headers["allow"] = allowed
    return refused


def _peer(scope: Scope) -> str:
    return str(scope["client"][0]) if scope.get("client") else ""


def _forwarded(scope: Scope, trusted: Networks) -> str:
    """Takes over what a trusted proxy says of the client; the prefix that it says it took off."""
    sent: list[tuple[bytes, bytes]] = scope["headers"]
    said = {name: value.decode("latin-1").strip() for name, value in sent if name.startswith(b"x-forwarded-")}
    if said.get(b"x-forwarded-proto") in ("http", "https"):
        scope["scheme"] = said[b"x-forwarded-proto"]
    hops = [hop.strip() for hop in said.get(b"x-forwarded-for", "").split(",") if hop.strip()]
    clients = [hop for hop in hops if not is_within(hop, trusted)]
    if clients:  # the last that no proxy of ours is: what stands before it, the client itself may have written
        scope["client"] = (clients[-1], 0)
    prefix = said.get(b"x-forwarded-prefix", "").rstrip("/")
    return prefix if _PREFIX.fullmatch(prefix) else ""
