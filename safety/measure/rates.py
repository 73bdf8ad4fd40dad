"""Recall and false alarms of the text screens on labelled texts, with 95 % intervals (Wilson), and what it costs.

Recall is the share of unsafe texts that are blocked, a false alarm a safe text that is. Precision is not told: it
depends on how many unsafe texts somebody has put into the file.
"""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from safety.measure.labelled_file import STAGES, LabelledText
from safety.policy import Policy
from safety.text.screen import JudgedText

Judge = Callable[[Sequence[str]], list[JudgedText]]  # of texts, in order

BATCH = 32
_Z_95 = 1.959964
_LENGTHS_CHARS = (50, 200, 1000, 10_000)


class Judged(NamedTuple):
    """What became of a text."""

    text: LabelledText
    is_blocked: bool


class Share(NamedTuple):
    """How many of how many, and between which shares the true one lies at 95 %; None of none."""

    blocked: int
    texts: int
    share: float | None
    low: float | None
    high: float | None


class Row(NamedTuple):
    """Of the texts that have one thing in common."""

    group: str
    recall: Share
    false_alarms: Share


class Throughput(NamedTuple):
    """In CPU time, of all threads."""

    texts: int
    chars: int
    cpu_s: float

    @property
    def texts_per_s(self) -> float:
        return self.texts / max(self.cpu_s, 1e-9)

    @property
    def chars_per_s(self) -> float:
        return self.chars / max(self.cpu_s, 1e-9)


def measure(texts: Sequence[LabelledText], judge: Judge, policy: Policy) -> tuple[list[Judged], Throughput]:
    """Every text through the screens and the policy."""
    results: list[Judged] = []
    began_s = time.process_time()
    for first in range(0, len(texts), BATCH):
        batch = texts[first : first + BATCH]
        for one, judged in zip(batch, judge([one.text for one in batch]), strict=True):
            verdict = policy.decide(STAGES[one.kind], judged.findings, judged.language)
            # What a screen came to no judgement on does not pass the gate either
            results.append(Judged(one, verdict.is_blocked or bool(judged.undecided)))
    spent_s = time.process_time() - began_s
    return results, Throughput(len(texts), sum(len(one.text) for one in texts), spent_s)


def wilson(blocked: int, texts: int) -> Share:
    """The score interval, which is right for few texts and for shares near 0 and 1 too."""
    if not texts:
        return Share(0, 0, None, None, None)
    share = blocked / texts
    spread = _Z_95 * math.sqrt(share * (1 - share) / texts + _Z_95**2 / (4 * texts**2))
    centre, scale = share + _Z_95**2 / (2 * texts), 1 + _Z_95**2 / texts
    return Share(blocked, texts, share, max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale))


def rows(results: Sequence[Judged]) -> dict[str, list[Row]]:
    """By language, kind, category and length; the latter three within each language."""
    groupings: dict[str, Callable[[LabelledText], str]] = {
        "language": lambda text: text.lang,
        "kind": lambda text: f"{text.lang} {text.kind}",
        "category": lambda text: f"{text.lang} {text.category}",
        "length": lambda text: f"{text.lang} {_length(len(text.text))}",
    }
    return {name: _rows(results, group) for name, group in groupings.items()}


def _rows(results: Iterable[Judged], group: Callable[[LabelledText], str]) -> list[Row]:
    groups: dict[str, list[Judged]] = {}
    for one in results:
        groups.setdefault(group(one.text), []).append(one)
    return [Row(name, _share(found, is_unsafe=True), _share(found, is_unsafe=False)) for name, found in groups.items()]


def _share(results: Iterable[Judged], *, is_unsafe: bool) -> Share:
    ours = [one.is_blocked for one in results if one.text.is_unsafe == is_unsafe]
    return wilson(sum(ours), len(ours))


def _length(chars: int) -> str:
    return next((f"up to {limit} characters" for limit in _LENGTHS_CHARS if chars <= limit), "longer")


def table(title: str, found: Sequence[Row]) -> str:
    """A row a group: how many texts, the share and its interval."""
    lines = [f"{title:34}{'unsafe':>8}{'recall':>9}{'95 %':>16}{'safe':>8}{'blocked':>9}{'95 %':>16}"]
    for row in found:
        cells = "".join(f"{share.texts:8}{_percent(share):>9}{_interval(share):>16}" for share in row[1:])
        lines.append(f"{row.group:34}{cells}")
    return "\n".join(lines)


def _percent(share: Share) -> str:
    return "-" if share.share is None else f"{100 * share.share:.2f} %"


def _interval(share: Share) -> str:
    return "" if share.low is None or share.high is None else f"{100 * share.low:.2f} to {100 * share.high:.2f}"
