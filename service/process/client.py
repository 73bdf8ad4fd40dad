"""`viscpm chat` and `viscpm paint`: small HTTP clients of a running service.

Proxies of the environment are for what is far: a loopback or private address is asked directly, whatever NO_PROXY says.
"""

import base64
import socket
import sys
import urllib.request
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import httpx

_UNSET = "unset it, or name this host in NO_PROXY"
_TIMEOUT = httpx.Timeout(5.0, read=900.0)  # longer than any job's deadline


class ClientError(Exception):
    """The request did not get its answer; the message is one line."""


def chat(url: str, image: Path | None, question: str, parameters: dict[str, Any], api_key: str = "") -> None:
    """Ask one question, or with an empty one hold a conversation on the terminal until end of file."""
    body: dict[str, Any] = dict(parameters)
    if image is not None:
        body["image"] = _read(image)
    with _client(url, api_key) as client:
        if question:
            _say(_post(client, "/chat", {**body, "question": question}, "answer"))
            return
        for asked in _questions():
            try:
                answer = _post(client, "/chat", {**body, "question": asked}, "answer")
            except ClientError as error:
                print(error, file=sys.stderr)
                continue
            _say(answer)
            body.pop("image", None)  # the conversation has it from now on
            body["conversation_id"] = answer["conversation_id"]


def paint(url: str, prompt: str, output: Path, parameters: dict[str, Any], api_key: str = "") -> None:
    """Paint one picture into `output`; its suffix chooses png, jpeg or webp."""
    formats = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}
    suffix = output.suffix.lower()
    if suffix not in formats:
        raise ClientError(f"{output}: the name must end in {', '.join(formats)}")
    with _client(url, api_key) as client:
        answer = _post(client, "/paint", {**parameters, "prompt": prompt, "output_format": formats[suffix]}, "data")
    picture = answer["data"][0]
    try:
        output.write_bytes(base64.b64decode(picture["b64_json"]))
    except OSError as error:
        raise ClientError(f"{output}: {error.strerror}") from None
    _warn_untrained(answer)
    if answer.get("unknown_words"):
        print(f"(the model knows no {', '.join(map(repr, answer['unknown_words']))})", file=sys.stderr)
    print(f"{output} (seed {picture['seed']})")


def _questions() -> Iterator[str]:
    while True:
        try:
            asked = input("> " if sys.stdin.isatty() else "").strip()
        except (EOFError, KeyboardInterrupt):
            return
        if asked:
            yield asked


def _say(answer: dict[str, Any]) -> None:
    _warn_untrained(answer)
    if answer.get("dropped_turns"):
        print(f"(the conversation is long: its {answer['dropped_turns']} oldest turns were left out)", file=sys.stderr)
    print(answer["answer"])


def _warn_untrained(answer: dict[str, Any]) -> None:
    if answer.get("untrained"):
        print("(untrained weights: the answer means nothing)", file=sys.stderr)


def _read(image: Path) -> str:
    try:
        return base64.b64encode(image.read_bytes()).decode()
    except OSError as error:
        raise ClientError(f"{image}: {error.strerror}") from None


def _client(url: str, api_key: str) -> httpx.Client:
    try:
        proxy = _proxy_of(httpx.URL(url))
        # A transport of its own keeps httpx from the environment's proxies, and not from its authorities
        transport = None if proxy else httpx.HTTPTransport()
        headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        return httpx.Client(base_url=url, timeout=_TIMEOUT, transport=transport, headers=headers)
    except httpx.InvalidURL as error:
        raise ClientError(f"{url} is no URL: {error}") from None
    except (ImportError, ValueError) as error:  # SOCKS needs a package that is not ours; a scheme that is none
        raise ClientError(f"the proxy of the environment cannot be used: {_line(error)}; {_UNSET}") from None


def _proxy_of(url: httpx.URL) -> str:
    """The proxy that the environment names for this URL; empty where it is asked directly."""
    proxies = urllib.request.getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all") or ""
    return "" if not proxy or urllib.request.proxy_bypass(url.host) or _is_near(url.host) else proxy


def _is_near(host: str) -> bool:
    """Whether all addresses of a host are of this machine or of private networks."""
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):  # no name that is known here: a proxy may know it
        return False
    return bool(found) and not any(ip_address(address).is_global for address in found)


def _line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")


def _without_password(proxy: str) -> str:
    scheme, separator, rest = proxy.rpartition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


def _post(client: httpx.Client, path: str, body: dict[str, Any], member: str) -> dict[str, Any]:
    """The answer, which has `member`."""
    url = f"{str(client.base_url).rstrip('/')}{path}"
    try:
        response = client.post(path, json=body)
        answer: Any = response.json()
    except httpx.HTTPError as error:
        proxy = _proxy_of(client.base_url)
        advice = (
            f"asked through the proxy {_without_password(proxy)}; {_UNSET}" if proxy else "is `viscpm serve` running?"
        )
        raise ClientError(f"{url}: {_line(error) or 'the connection broke off'}; {advice}") from None
    except ValueError:
        raise ClientError(f"{response.url} answered {response.status_code} with no JSON: not this service?") from None
    told = answer.get("error" if response.is_error else member) if isinstance(answer, dict) else None
    if told is None or (response.is_error and not isinstance(told, dict)):
        raise ClientError(f"{response.url} answered {response.status_code} with other JSON: not this service?")
    if response.is_error:
        raise ClientError(f"{response.status_code} {told.get('code')}: {told.get('message')}")
    return dict(answer)
