"""The HTTP request that runs now: the id that travels with its jobs, and what its log line tells of them.

Tasks that a request starts belong to it. Code that runs for no request finds no id, and what it notes is lost.
"""

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(slots=True)
class CurrentRequest:
    request_id: str
    job_id: str | None = None
    is_queued: bool = False  # the job: it goes on without its request
    tokens: int | None = None  # of the answer
    steps: int | None = None  # of denoising
    key_id: str | None = None  # of the API key that it was asked with


_key_id: ContextVar[str] = ContextVar("key_id", default="")
_current: ContextVar[CurrentRequest | None] = ContextVar("current_request", default=None)


def begin_request(request_id: str) -> CurrentRequest:
    """From here on in this task, and in those that it starts, this is the request."""
    request = CurrentRequest(request_id)
    _current.set(request)
    return request


def current_request_id() -> str:
    """Empty outside of requests."""
    request = _current.get()
    return "" if request is None else request.request_id


def note_key(key_id: str) -> None:
    """The API key that this request is asked with."""
    _key_id.set(key_id)
    if (request := _current.get()) is not None:
        request.key_id = key_id


def work_for_key(key_id: str) -> None:
    """What this task does from here on is for a job of that key, whoever asks about it."""
    _key_id.set(key_id)


def current_key_id() -> str:
    """Empty where no key is asked for, and outside of requests."""
    return _key_id.get()


def note_job(job_id: str) -> None:
    if (request := _current.get()) is not None:
        request.job_id = job_id


def note_queued() -> None:
    if (request := _current.get()) is not None:
        request.is_queued = True


def note_tokens(tokens: int) -> None:
    if (request := _current.get()) is not None:
        request.tokens = tokens


def note_steps(steps: int) -> None:
    if (request := _current.get()) is not None:
        request.steps = steps
