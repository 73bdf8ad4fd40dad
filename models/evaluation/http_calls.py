"""Calls of HTTP services that may be busy: JSON in and out, again where that may help, a few at a time."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpx

from models.evaluation.errors import EvaluationError

TIMEOUT = httpx.Timeout(10.0, read=900.0)  # a picture on a CPU, or a long queue
_RETRIED = {408, 409, 425, 429}  # and all from 500 on

Item = TypeVar("Item")


@dataclass(frozen=True)
class Retries:
    """How often and how patiently. A Retry-After is waited for in full up to `longest_retry_after_s`."""

    attempts: int = 6
    first_wait_s: float = 1.0
    longest_wait_s: float = 60.0
    longest_retry_after_s: float = 600.0

    def wait_s(self, attempt: int, response: httpx.Response | None) -> float:
        """Before the next attempt: what the service asks for, else twice as long each time, with jitter."""
        asked_s = None if response is None else retry_after_s(response)
        if asked_s is not None:
            return min(asked_s, self.longest_retry_after_s)
        return random.uniform(0.5, 1.0) * min(self.first_wait_s * 2**attempt, self.longest_wait_s)


class CallFailed(EvaluationError):
    """One call that has failed for good: refused, or in vain after all attempts. `status` 0: no answer at all."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status

    @property
    def is_fatal(self) -> bool:
        """Other calls would fail too: a wrong key, address or model, or nobody there."""
        return self.status in (0, 401, 404, 405)


@dataclass
class Outcome:
    """Many calls of which single ones may fail; where none succeeds, it is no single one's fault.

    Args:
        hopeless_after: failures before the first success that end it all.
    """

    hopeless_after: int = 10
    failures: list[str] = field(default_factory=list)
    successes: int = 0

    def succeed(self) -> None:
        self.successes += 1

    def fail(self, what: str, error: CallFailed) -> None:
        """Notes one that failed. Raises CallFailed where going on is for nothing."""
        message = f"{what}: {error}"
        if error.is_fatal:
            raise CallFailed(message, error.status) from error
        self.failures.append(message)
        if not self.successes and len(self.failures) >= self.hopeless_after:
            raise CallFailed(f"the first {len(self.failures)} calls all failed, the last one: {message}", error.status)


async def post(client: httpx.AsyncClient, path: str, body: dict[str, Any], retries: Retries) -> dict[str, Any]:
    """The JSON object that a service answers. Raises CallFailed."""
    response, failure = None, ""
    for attempt in range(retries.attempts):
        if attempt:
            await asyncio.sleep(retries.wait_s(attempt - 1, response))
        response = None
        try:
            response = await client.post(path, json=body)
        except httpx.TransportError as error:
            failure = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            continue
        if response.is_success:
            return _object(response)
        failure = f"{response.status_code} {_message(response)}"
        if response.status_code not in _RETRIED and response.status_code < 500:
            raise CallFailed(f"{response.url} refused: {failure}", response.status_code)
    where = client.base_url.join(path)
    raise CallFailed(
        f"{where} failed {retries.attempts} times, last: {failure}", response.status_code if response else 0
    )


async def served_model(client: httpx.AsyncClient, kind: str) -> str:
    """Name of the chat or paint model that a VisCPM service runs. Raises CallFailed."""
    try:
        response = await client.get(f"/v2/models/{kind}")
        response.raise_for_status()
        versions = _object(response).get("versions")
    except httpx.HTTPStatusError as error:
        raise CallFailed(f"{error.request.url}: {error.response.status_code}", error.response.status_code) from None
    except httpx.TransportError as error:
        raise CallFailed(f"{client.base_url}: {error}; is `viscpm serve` running?", 0) from None
    if not isinstance(versions, list) or not versions:
        raise CallFailed(f"{client.base_url} has no {kind} model ready", 503)
    return str(versions[0])


async def for_each(items: Iterable[Item], work: Callable[[Item], Awaitable[None]], concurrency: int) -> None:
    """Works on all items, at most `concurrency` of them at once; the first exception stops the others."""
    pending = iter(items)

    async def take() -> None:
        for item in pending:
            await work(item)

    tasks = [asyncio.create_task(take()) for _ in range(concurrency)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def open_client(url: str, api_key: str = "") -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    try:
        client = httpx.AsyncClient(base_url=url, headers=headers, timeout=TIMEOUT)
    except httpx.InvalidURL as error:
        raise EvaluationError(f"{url!r} is no URL: {error}") from None
    if client.base_url.scheme not in ("http", "https") or not client.base_url.host:
        raise EvaluationError(f"{url!r} is no address of a service; http://HOST or https://HOST is expected")
    return client


def retry_after_s(response: httpx.Response) -> float | None:
    """Seconds of a Retry-After header, which holds seconds or a date; None without a usable one."""
    value = response.headers.get("Retry-After", "").strip()
    try:
        seconds = float(value)
    except ValueError:
        try:
            date = parsedate_to_datetime(value)
        except ValueError:
            return None
        date = date if date.tzinfo else date.replace(tzinfo=UTC)
        seconds = (date - datetime.now(UTC)).total_seconds()
    return max(seconds, 0.0) if seconds < float("inf") else None


def _object(response: httpx.Response) -> dict[str, Any]:
    try:
        answer = response.json()
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise CallFailed(f"{response.url} answered {response.status_code} without a JSON object", 404)
    return answer


def _message(response: httpx.Response) -> str:
    """What the body says went wrong, in the field where OpenAI's errors have it."""
    try:
        error = response.json()["error"]
        return str(error["message"] if isinstance(error, dict) else error)[:300]
    except (ValueError, KeyError, TypeError):
        return response.text[:300].strip() or response.reason_phrase
