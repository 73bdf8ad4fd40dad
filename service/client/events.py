"""Jobs as commands follow them: begun without waiting, read as a stream that is taken up again where it broke."""

import json
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx

from service.client.connection import Service, answer_in, error_of, unreachable
from service.client.exit_codes import CommandError

_WAITS_S = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0)  # before a broken stream is taken up again
_LOOK_S = 0.5  # at a job that waits for its turn


class Event(NamedTuple):
    name: str  # empty in streams of text
    id: str
    data: dict[str, Any]


class Waiting(NamedTuple):
    """A job that is queued."""

    position: int | None  # 1 is taken next
    eta_s: float | None


def begin(service: Service, path: str, body: dict[str, Any]) -> str:
    """Have a job made; its id."""
    return str(service.post(path, body, "id", prefer="respond-async")["id"])


def cancel(service: Service, job_id: str) -> dict[str, Any]:
    """The job, as it ended."""
    return service.request("DELETE", _path(job_id), "state")


@contextmanager
def cancelled_with_us(service: Service, job_id: str) -> Iterator[None]:
    """A job of this command's own: an interrupt ends it too."""
    try:
        yield
    except KeyboardInterrupt:
        with suppress(CommandError):
            cancel(service, job_id)
        raise


def wait_for_turn(service: Service, job_id: str) -> Iterator[Waiting]:
    """Where a job stands, now and then until it runs or has ended."""
    while (job := service.get(_path(job_id), "state"))["state"] in ("reserved", "queued"):
        yield Waiting(job.get("position"), job.get("eta_s"))
        time.sleep(_LOOK_S)


def follow(service: Service, job_id: str) -> Iterator[Event]:
    """A job's events to its end; a lost connection is taken up again. Raises CommandError: what it ended with."""
    last_id, tries, furthest = "", 0, -1
    while True:
        try:
            for event in _stream(service, f"{_path(job_id)}/events", last_id):
                last_id = event.id or last_id
                reached = int(event.id or event.data.get("step", 0))  # what was told before is told again
                if reached > furthest:
                    furthest, tries = reached, 0
                yield event
            return
        except ValueError:
            raise CommandError(f"{_path(job_id)}/events: no events of this service") from None
        except httpx.HTTPError as error:
            if tries == len(_WAITS_S):
                raise unreachable(service.client.base_url, _path(job_id), error) from None
        time.sleep(_WAITS_S[tries])
        tries += 1


def _path(job_id: str) -> str:
    return f"/jobs/{quote(job_id, safe='')}"


def _stream(service: Service, path: str, last_id: str) -> Iterator[Event]:
    headers = {"last-event-id": last_id} if last_id else {}
    with service.client.stream("GET", path, headers=headers) as response:
        if response.is_error or "text/event-stream" not in response.headers.get("content-type", ""):
            response.read()
            answer_in(response, "error")
            raise CommandError(f"{response.url} answered with no stream: not this service?")
        for event in events_of(lines_of(response.iter_text())):
            if event is None:
                return
            yield event
    raise httpx.ReadError("the stream broke off")


def lines_of(pieces: Iterable[str]) -> Iterator[str]:
    """Ended by line feeds alone: texts hold other characters that Python takes for ends of lines."""
    rest = ""
    for piece in pieces:
        *lines, rest = (rest + piece).split("\n")
        yield from lines


def events_of(lines: Iterable[str]) -> Iterator[Event | None]:
    """The events of a stream; None for its `[DONE]`. Raises CommandError for an event that is an error."""
    name = event_id = data = ""
    for line in lines:
        if line:
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            name = value if field == "event" else name
            event_id = value if field == "id" else event_id
            data += value if field == "data" else ""
            continue
        if data == "[DONE]":
            yield None
        elif data:
            told = json.loads(data)
            if told.get("error"):
                raise error_of(told["error"])
            yield Event(name, event_id, told)
        name = event_id = data = ""
