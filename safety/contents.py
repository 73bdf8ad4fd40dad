"""What passes through the gate, and the shapes it asks of the bus and of the one who knows what jobs hold.

The gate knows no job, event or ending of ours: `Contents` shows it what is inside of them, and the bus is any object
of that shape.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, Self

from safety.verdict import Picture, Stage, Verdict

# Pass through unread.
Job = Any
Event = Any
Ending = Any
Turn = Any


class Inputs(NamedTuple):
    """All that a job takes from outside."""

    texts: list[tuple[Stage, str]]
    picture: Picture | None = None


class Text(NamedTuple):
    """A streamed piece of an answer; `offset_chars` counts what came before it."""

    text: str
    offset_chars: int


class Step(NamedTuple):
    """One finished denoising step; `preview_png` is empty where none was asked for."""

    step: int
    total_steps: int
    preview_png: bytes = b""


class Result(NamedTuple):
    """A worker's unscreened result: an answer, or PNG candidates best first."""

    generated: Event
    answer: str | None = None
    candidates: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class Passed:
    """What may leave of a result: the answer, or the candidates of these indices; `blocked` is the verdict against it.

    An answer that was blocked while it streamed has no result; `sent` is what had been sent of it. `verdicts` are all
    that were given on the result; none where the screens are open.
    """

    result: Result | None
    chosen: tuple[int, ...] = ()
    blocked: Verdict | None = None
    sent: str = ""
    verdicts: tuple[Verdict, ...] = ()


class Status(NamedTuple):
    """What may be told of a job. `intent` is there until it has ended."""

    kind: Any
    state: Any
    tenant: str
    created_ms: int
    intent: bytes
    ending: Ending | None


class Record(Protocol):
    """A job as the bus keeps it."""

    @property
    def kind(self) -> Any: ...
    @property
    def state(self) -> Any: ...
    @property
    def tenant(self) -> str: ...
    @property
    def intent(self) -> bytes: ...
    @property
    def generated(self) -> bytes: ...
    @property
    def ending(self) -> Ending | None: ...
    @property
    def created_ms(self) -> int: ...


class Watch(Protocol):
    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, *exception: object) -> None: ...
    def __aiter__(self) -> Self: ...
    async def __anext__(self) -> Event | Ending: ...


class Bus(Protocol):
    async def reserve(self, kind: Any, job_id: str, tenant: str) -> None: ...
    async def submit(self, job: Job, intent: bytes, busy_key: str) -> None: ...
    def subscribe(self, job_id: str) -> Watch: ...
    async def finish(self, job_id: str, ending: Ending, turn: Turn | None) -> bool: ...
    async def cancel(self, job_id: str, reason: str) -> bool: ...
    async def record(self, job_id: str) -> Any: ...
    async def ungated(self) -> list[str]: ...


class Observer(Protocol):
    """Told of everything that is judged, for metrics and the audit log."""

    def judged(self, job_id: str, verdict: Verdict) -> None: ...

    def failed(self, job_id: str, stage: Stage, error: Exception) -> None: ...


class Contents(Protocol):
    """Shows the gate what jobs, events and results hold, and writes endings. One for the whole process."""

    def inputs(self, job: Job) -> Inputs: ...

    def part(self, event: Event) -> Text | Step | Result | None:
        """None: an ending."""

    def screened(self, intent: bytes, verdicts: Sequence[Verdict]) -> bytes:
        """The intent with the verdicts on the job's inputs noted in it."""

    def wanted(self, intent: bytes) -> int:
        """How many candidates are asked for."""

    def language(self, intent: bytes) -> str:
        """That the user is spoken to in."""

    def decode(self, generated: bytes) -> Event: ...

    async def ending(self, job_id: str, intent: bytes, passed: Passed) -> tuple[Ending, Turn | None]:
        """The ending of a screened result."""

    def refusal(self, verdict: Verdict) -> Ending:
        """The ending of a job whose input is refused."""

    def failure(self, code: str, message: str) -> Ending: ...
