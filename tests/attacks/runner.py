"""Sends the corpus to a service and judges what comes back."""

import http.client
import json
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple
from urllib.parse import urlsplit

from tests.attacks import bodies, encodings, origins, pictures, urls
from tests.attacks.case import Case, Sent, Surroundings

CASES: list[Case] = urls.CASES + origins.CASES + pictures.CASES + encodings.CASES + bodies.CASES


class Outcome(NamedTuple):
    case: Case
    status: int  # 0: no answer
    code: str
    elapsed_s: float
    problem: str  # empty: as documented

    def __str__(self) -> str:
        wanted = f"{self.case.status} {self.case.code}".strip()
        return f"{self.case.id}: got {self.status} {self.code} for {wanted}: {self.problem}"


def run(
    cases: Iterable[Case],
    base_url: str,
    around: Surroundings,
    *,
    clients: int = 1,
    timeout_s: float = 120.0,
    is_fetching: bool = True,
) -> Iterator[Outcome]:
    """One round.

    Args:
        clients: requests at a time.
        is_fetching: whether the service fetches URLs; where not, all of them must be refused for that.
    """
    known = [case for case in cases if around.origin_url or case.needs != "origin"]
    known.sort(key=lambda case: not case.is_slow)  # the others need not wait for them
    if not is_fetching:
        refused = {"status": 400, "code": "image_fetch_disabled"}
        known = [replace(case, **refused) if case.needs else case for case in known]  # type: ignore[arg-type]
    with ThreadPoolExecutor(clients) as pool:
        yield from pool.map(lambda case: _attack(case, base_url, around, timeout_s), known)


def _attack(case: Case, base_url: str, around: Surroundings, timeout_s: float) -> Outcome:
    began_s = time.monotonic()
    try:
        status, body = send(case.request(around), base_url, timeout_s)
    except (OSError, http.client.HTTPException) as error:
        return Outcome(case, 0, type(error).__name__, time.monotonic() - began_s, "no answer")
    code, problem = judge(case, status, body)
    return Outcome(case, status, code, time.monotonic() - began_s, problem)


def judge(case: Case, status: int, body: bytes) -> tuple[str, str]:
    """The error code of an answer, and what is wrong with it."""
    if status == 200 and case.status == 200:
        return "", ""
    try:
        error = json.loads(body)["error"]
        code = str(error["code"])
    except (ValueError, KeyError, TypeError):
        return "", "the body is not the documented error form"
    if (status, code) != (case.status, case.code):
        return code, f"another answer: {error['message']}"
    if set(error) != {"message", "type", "param", "code"} or not error["message"]:
        return code, f"members {sorted(error)}"
    for secret in ("Traceback", "secret", "/site-packages/", "169.254.", "10.0.0.1"):
        if secret in error["message"]:
            return code, f"the message tells {secret}"
    return code, ""


def send(sent: Sent, base_url: str, timeout_s: float) -> tuple[int, bytes]:
    """Status and body. A service that answers before it has read everything may hang up: its answer counts."""
    parts = urlsplit(base_url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=timeout_s)
    try:
        body = sent.body if isinstance(sent.body, bytes) else sent.body()
        headers = dict(sent.headers)
        if sent.stops_early and isinstance(body, bytes):
            headers["Content-Length"] = str(len(body) + 1)
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.request(
                "POST", parts.path + sent.path, body, headers, encode_chunked=not isinstance(body, bytes)
            )
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()
