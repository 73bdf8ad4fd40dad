"""What is shown to the gate, and what it says of it. Plain data: the gate knows no job, event or ending."""

from dataclasses import dataclass
from typing import NamedTuple

from safety.verdict import Picture, Stage, Verdict


class Inputs(NamedTuple):
    """All that a job takes from outside."""

    texts: list[tuple[Stage, str]]
    picture: Picture | None = None


class Output(NamedTuple):
    """What a worker made: an answer, or PNG candidates best first, of which `wanted` are asked for.

    `language` is the one that the user is spoken to in.
    """

    answer: str | None = None
    candidates: tuple[bytes, ...] = ()
    wanted: int = 1
    language: str = ""


@dataclass(frozen=True)
class Moderated:
    """What may leave of an output: the answer, or the candidates of the indices `chosen`.

    Attributes:
        blocked: the verdict against the output as a whole.
        verdicts: all that were given on it; none where the screens are open.
    """

    chosen: tuple[int, ...] = ()
    blocked: Verdict | None = None
    verdicts: tuple[Verdict, ...] = ()
