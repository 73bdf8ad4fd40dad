"""The bundled text screen: packaged word lists and our reviewed rules, in English and Chinese.

Covered: terms and verb-with-object patterns of the rule files and lists, in any of the spellings that
`normalise.py` undoes; both languages in one text; phrases that only look unsafe.
Not covered: meaning. Irony, stories told around a harm, euphemisms that are not listed, other languages, and what
several harmless messages ask together pass.
"""

import hashlib
import json
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import NamedTuple

from ahocorasick_rs import AhoCorasick

from safety.text.lists import read_lists
from safety.text.normalise import fold, readings, separate
from safety.text.rule_files import Rule, RuleBook, read_rules

NAME = "rules"
# Of letters that stand alone, the part that known words must cover: "therapist" holds "rapist", and is known itself.
_MIN_COVERED = 0.6
_FUNCTION_WORDS = "a i the in of with on and to for is my her his at by an this that who it from are me you".split()
_Span = tuple[int, int]
_Positions = dict[int, list[_Span]]


class _Compiled(NamedTuple):
    """A rule with its sets as numbers."""

    rule: Rule
    sets: tuple[int, ...]
    needed: frozenset[int]
    unless: int


class TextRules:
    """Finds what rules and lists call unsafe. Made once; safe to use from several threads.

    Attributes:
        categories: those that are judged at all.
        version: changes whenever a rule, a list or the list's package does.
    """

    def __init__(self, book: RuleBook) -> None:
        self.categories = book.categories
        self.version = _digest(book)
        numbers = {name: number for number, name in enumerate(book.words)}
        owners: dict[str, set[int]] = defaultdict(set)
        for name, terms in book.words.items():
            for term in terms:
                owners[_pattern(term)].add(numbers[name])
        self._allow = len(numbers)
        for phrase in book.allowed:
            owners[_pattern(phrase)].add(self._allow)
        owners.pop("", None)
        self._owners = [tuple(sorted(sets)) for sets in owners.values()]
        self._automaton = AhoCorasick(list(owners), store_patterns=False)
        self._by_last: dict[int, list[_Compiled]] = defaultdict(list)
        for rule in book.rules:
            sets = tuple(numbers[name] for name in rule.sets)
            unless = numbers[rule.unless] if rule.unless else -1
            self._by_last[sets[-1]].append(_Compiled(rule, sets, frozenset(sets), unless))
        latin = (part for pattern in owners if pattern.isascii() for part in pattern.split())
        words = {word.replace(" ", ""): None for word in latin if len(word) > 1} | dict.fromkeys(_FUNCTION_WORDS)
        self._run_together = AhoCorasick(list(words), store_patterns=False)
        self._none = dict.fromkeys(book.categories, 0.0)

    def scores(self, texts: Sequence[str]) -> list[dict[str, float]]:
        """For each text the score, 0 to 1, of every category that is judged."""
        return [self._score(text) for text in texts]

    def found(self, text: str) -> list[Rule]:
        """The rules that a text breaks, each once."""
        broken: dict[str, Rule] = {}
        for reading in readings(text, self._split):
            for rule in self._broken(reading):
                broken[rule.name] = rule
        return list(broken.values())

    def _score(self, text: str) -> dict[str, float]:
        scores = self._none.copy()
        for reading in readings(text, self._split):
            for rule in self._broken(reading):
                scores[rule.category] = max(scores[rule.category], rule.score)
        return scores

    def _broken(self, reading: str) -> Iterable[Rule]:
        matches = self._automaton.find_matches_as_indexes(reading, overlapping=True)
        if not matches:
            return
        positions = self._positions(matches)
        for last in positions:
            for compiled in self._by_last.get(last, ()):
                is_lifted = compiled.unless in positions
                if positions.keys() >= compiled.needed and not is_lifted and _follow(compiled, positions):
                    yield compiled.rule

    def _positions(self, matches: list[tuple[int, int, int]]) -> _Positions:
        """Where each set is found, but for what lies inside an allowed phrase."""
        allow, owners = self._allow, self._owners
        safe = _Cover([(start, end) for number, start, end in matches if owners[number][-1] == allow])
        positions: _Positions = {}
        for number, start, end in matches:
            if not safe.holds(start, end):
                for name in owners[number]:
                    positions.setdefault(name, []).append((start, end))
        return positions

    def _split(self, letters: str) -> str:
        """Words out of letters that were written one by one; the letters as they are where few words are known."""
        starting: dict[int, list[int]] = defaultdict(list)
        for _, start, end in self._run_together.find_matches_as_indexes(letters, overlapping=True):
            starting[start].append(end)
        # Few long words are likelier than many short ones: for each place the best sum of squared lengths from there
        # on, and where the first of those words ends.
        best, ends = [0] * (len(letters) + 1), [0] * len(letters)
        for place in reversed(range(len(letters))):
            options = [((end - place) ** 2 + best[end], end) for end in starting.get(place, ())]
            best[place], ends[place] = max([*options, (best[place + 1], place)])
        return _cut(letters, ends)


def load_text_rules() -> TextRules:
    """The bundled rules and lists."""
    return TextRules(read_lists(read_rules()))


def _follow(compiled: _Compiled, positions: _Positions) -> bool:
    """True where the sets, all found, come one after the other as the rule wants them."""
    rule, sets, _, _ = compiled
    if len(sets) == 1:
        return True
    spans = positions[sets[0]]
    for name, gap, either_side in zip(sets[1:], rule.gaps, rule.either_side, strict=True):
        starts, ends = (sorted(places) for places in zip(*spans, strict=True))
        # Neighbouring Latin words share the space between them.
        spans = [
            (start, end)
            for start, end in positions[name]
            if _any_within(ends, start - gap, start + 1) or (either_side and _any_within(starts, end - 1, end + gap))
        ]
        if not spans:
            return False
    return True


def _any_within(places: list[int], first: int, last: int) -> bool:
    """True where one of the sorted places lies from first to last."""
    place = bisect_left(places, first)
    return place < len(places) and places[place] <= last


class _Cover:
    """Spans, to be asked whether one of them holds another."""

    def __init__(self, spans: list[_Span]) -> None:
        spans.sort()
        self._starts = [start for start, _ in spans]
        self._ends = list(accumulate((end for _, end in spans), max))

    def holds(self, start: int, end: int) -> bool:
        place = bisect_right(self._starts, start)
        return place > 0 and self._ends[place - 1] >= end


def _cut(letters: str, ends: list[int]) -> str:
    """Letters with spaces around the known words, where those cover enough; a word from i ends at `ends[i]` > i."""
    parts, place, covered = [""], 0, 0
    while place < len(letters):
        end = ends[place]
        if end > place:
            parts += [letters[place:end], ""]
            covered += end - place
            place = end
        else:
            parts[-1] += letters[place]
            place += 1
    return " ".join(part for part in parts if part) if covered >= _MIN_COVERED * len(letters) else letters


def _pattern(term: str) -> str:
    """A term as it stands in a reading: Latin words between spaces, Han characters wherever they are."""
    words = separate(fold(term)).strip()
    if not words:
        return ""
    return (" " if words[0].isascii() else "") + words + (" " if words[-1].isascii() else "")


def _digest(book: RuleBook) -> str:
    content = json.dumps([book.words, [rule.__dict__ for rule in book.rules], book.allowed], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:12]
