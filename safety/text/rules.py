"""The bundled text screen: packaged word lists and our reviewed rules, in English and Chinese.

Covered: terms and verb-with-object patterns of the rule files and lists, in any of the spellings that
`normalise.py` undoes; both languages in one text; phrases that only look unsafe; Chinese words that begin or end inside
what looks like a term. A long text is judged a few sentences at a time, and there words with a harmless use as well
count only where several stand together.
Not covered: meaning. Irony, stories told around a harm, euphemisms that are not listed, other languages, and what
several harmless messages ask together pass.
"""

import hashlib
import json
import re
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, partial
from itertools import accumulate
from typing import NamedTuple

import msgspec
from ahocorasick_rs import AhoCorasick

from safety.categories import PROFANITY
from safety.text.chinese_words import OrdinaryWords, read_ordinary_words
from safety.text.language import HAN
from safety.text.lists import EVERYDAY_SCORE, read_lists
from safety.text.normalise import fold, readings, separate
from safety.text.passages import SENTENCE_END, mark_sentences, passages
from safety.text.rule_files import SHARED, Rule, RuleBook, read_rules
from safety.text.word_weights import WeightsFile, WordWeights, read_weights, words_of

NAME = "rules"
WEIGHED_SCORE = 0.8  # of what no rule catches and its words speak for
# Of letters that stand alone, the part that known words must cover: "therapist" holds "rapist", and is known itself.
_MIN_COVERED = 0.6
_FUNCTION_WORDS = "a i the in of with on and to for is my her his at by an this that who it from are me you".split()
_HAN_WORD = re.compile(f"[{HAN}]{{2,4}}")
# Up to this length a text is judged whole.
_WHOLE_CHARS = 400
# Up to this one it is blocked for its words where it breaks no rule: weights are of short texts, and of a harmless
# description of 150 Chinese characters or more one in four seemed a harm to them.
_WEIGHED_BYTES = 400
# How many weak words must stand together in a longer text, and from which length on more of them.
_WEAK_TOGETHER = 2
_VERY_LONG_CHARS = 2500
_WEAK_TOGETHER_IN_VERY_LONG = 3
# Up to so many pairs of places are compared one by one, more by bisection.
_FEW_PAIRS = 30
_Span = tuple[int, int]
_Match = tuple[int, int, int]
_Positions = dict[int, list[_Span]]


class _Compiled(NamedTuple):
    """A rule with its sets as numbers, and those that must and must not be found as bits."""

    rule: Rule
    sets: tuple[int, ...]
    needed: int
    unless: int


class TextRules:
    """Finds what rules and lists call unsafe. Made once; safe to use from several threads.

    Attributes:
        categories: those that are judged at all.
        version: changes whenever a rule, a list or the list's package does.
    """

    def __init__(self, book: RuleBook, weights: WeightsFile | None = None) -> None:
        self.categories = book.categories
        ordinary_words = read_ordinary_words()
        self.version = _digest(book, ordinary_words, weights)
        used = dict.fromkeys(name for rule in book.rules for name in rule.sets)
        # English sets last: bits are as long as the highest of them, and Chinese texts need none of those.
        names = sorted(dict.fromkeys(book.words) | used, key=lambda name: ".en." in name)
        numbers = {name: number for number, name in enumerate(names)}
        owners: dict[str, set[int]] = defaultdict(set)
        for name, number in numbers.items():
            for term in (term for part in name.split("|") for term in book.words[part]):
                owners[_pattern(term)].add(number)
        self._end = len(numbers)
        self._allow = self._end + 1
        for phrase in book.allowed:
            owners[_pattern(phrase)].add(self._allow)
        owners.pop("", None)
        latin = [part for pattern in owners if pattern.isascii() for part in pattern.split()]
        owners[f" {SENTENCE_END} "] = {self._end}
        self._owners = [tuple(sorted(sets)) for sets in owners.values()]
        own = {number: name for name, number in numbers.items() if name in book.words}
        self._names_of_terms = [[own[number] for number in sets if number in own] for sets in self._owners]
        self._weights = None if weights is None else WordWeights(weights, self._names_of_terms)
        self._bits = [sum(1 << number for number in sets) for sets in self._owners]
        self._allowing = {number for number, sets in enumerate(self._owners) if sets[-1] == self._allow}
        self._automaton = AhoCorasick(list(owners), store_patterns=False)
        harms = {numbers[name] for name in used if not name.startswith(f"{SHARED}.")}
        self._guarded = {
            number for number, (term, sets) in enumerate(owners.items()) if _HAN_WORD.fullmatch(term) and sets & harms
        }
        harmful = {term for term, sets in owners.items() if sets & harms}
        self._ordinary_words = OrdinaryWords(ordinary_words, harmful)
        by_anchor: dict[int, list[_Compiled]] = defaultdict(list)
        for rule in book.rules:
            sets = tuple(numbers[name] for name in rule.sets)
            needed, unless = (sum({1 << numbers[name] for name in names}) for names in (rule.sets, rule.unless))
            anchor = numbers[_rarest(rule.sets, book)]
            by_anchor[anchor].append(_Compiled(rule, sets, needed, unless))
        self._anchored = {
            number: rules
            for number, sets in enumerate(self._owners)
            if (rules := [rule for of_set in sets for rule in by_anchor.get(of_set, ())])
        }
        self._anchors = frozenset(self._anchored)
        words = {word.replace(" ", ""): None for word in latin if len(word) > 1} | dict.fromkeys(_FUNCTION_WORDS)
        self._run_together = AhoCorasick(list(words), store_patterns=False)
        self._none = dict.fromkeys(book.categories, 0.0)

    def scores(self, texts: Sequence[str]) -> list[dict[str, float]]:
        """For each text the score, 0 to 1, of every category that is judged."""
        return [self._score(text) for text in texts]

    def found(self, text: str) -> list[Rule]:
        """The rules that a text breaks, each once; in a long one also weak words that stand alone."""
        broken: dict[str, Rule] = {}
        for passage in _judged(text):
            for reading in readings(passage, self._split):
                for rule, _ in self._broken(*self._terms(reading), {}):
                    broken[rule.name] = rule
        return list(broken.values())

    def features(self, text: str) -> tuple[Counter[str], set[str]]:
        """What a text is weighed by: how many terms it has of which sets, and its words."""
        read = readings(text, self._split)
        terms = {number for reading in read for number in self._terms(reading)[1]}
        return Counter(name for number in terms for name in self._names_of_terms[number]), words_of(read[0])

    def _score(self, text: str) -> dict[str, float]:
        scores = self._none.copy()
        if len(text) <= _WHOLE_CHARS:
            # Of four bytes at most is each character
            is_weighed = len(text) * 4 <= _WEIGHED_BYTES or len(text.encode(errors="replace")) <= _WEIGHED_BYTES
            self._score_whole(readings(text, self._split), scores, is_weighed)
            return scores
        together = _WEAK_TOGETHER if len(text) <= _VERY_LONG_CHARS else _WEAK_TOGETHER_IN_VERY_LONG
        for passage in _judged(text):
            for reading in readings(passage, self._split):
                self._score_passage(reading, together, scores)
        return scores

    def _score_whole(self, read: list[str], scores: dict[str, float], is_weighed: bool) -> None:
        """What the readings of a text break, and what their words speak for; these alone only where `is_weighed`."""
        terms: set[int] = set()
        is_any_broken = False
        for reading in read:
            matches, numbers = self._terms(reading)
            is_any_broken |= self._score_matches(matches, numbers, scores)
            terms |= numbers
        if self._weights is None:
            return
        broken: list[str] = []
        if is_any_broken:
            broken = [name for name, score in scores.items() if score > EVERYDAY_SCORE and name != PROFANITY]
        highest = max(scores[name] for name in broken) if broken else 0.0
        is_harm = self._weights.is_harm(terms, read[0], highest)
        if is_harm and not broken and is_weighed:
            scores[self._weights.category(terms, read[0])] = WEIGHED_SCORE
        elif broken and not is_harm:
            scores.update(dict.fromkeys(broken, EVERYDAY_SCORE))

    def _score_matches(self, matches: list[_Match], numbers: set[int], scores: dict[str, float]) -> bool:
        """Raises the scores to what the matches break. Returns whether any rule is broken beyond them."""
        is_any_broken = False
        for rule, _ in self._broken(matches, numbers, scores):
            is_any_broken = True
            scores[rule.category] = max(scores[rule.category], rule.score)
        return is_any_broken

    def _score_passage(self, reading: str, together: int, scores: dict[str, float]) -> None:
        """Of a longer text: fewer weak words than `together` score as everyday ones, in a very long text wider patterns
        as well, and so does what breaks a rule in a sentence whose words speak for no harm."""
        matches, numbers = self._terms(reading)
        is_harm = cache(partial(self._is_harmful_part, reading, matches))
        broken: list[tuple[Rule, list[_Span]]] = []
        for rule, spans in self._broken(matches, numbers, {}):
            if rule.score > EVERYDAY_SCORE and rule.category != PROFANITY:
                spans = [span for span in spans if is_harm(*_sentence_around(reading, span), rule.score)]
            broken.append((rule, spans))

        def is_weak(rule: Rule) -> bool:
            return rule.is_weak or (together > _WEAK_TOGETHER and rule.score < 1)

        weak = {start for rule, spans in broken if is_weak(rule) and rule.score > EVERYDAY_SCORE for start, _ in spans}
        for rule, spans in broken:
            counts = bool(spans) and (len(weak) >= together or not is_weak(rule))
            score = rule.score if counts else min(rule.score, EVERYDAY_SCORE)
            scores[rule.category] = max(scores[rule.category], score)

    def _is_harmful_part(self, reading: str, matches: list[_Match], first: int, end: int, rule_score: float) -> bool:
        """Whether the words of a part that breaks a rule do not speak against a harm."""
        if self._weights is None:
            return True
        terms = {number for number, start, stop in matches if first <= start and stop <= end}
        return self._weights.is_harm(terms, reading[first:end], rule_score)

    def _terms(self, reading: str) -> tuple[list[_Match], set[int]]:
        """The terms in a reading, with their places, and their numbers alone; none that is part of something else."""
        matches = self._automaton.find_matches_as_indexes(reading, overlapping=True)
        numbers = {number for number, _, _ in matches}
        if not self._allowing.isdisjoint(numbers):
            cover = _Cover([(start, end) for number, start, end in matches if number in self._allowing])
            matches = [match for match in matches if not cover.holds(match[1], match[2])]
            numbers = {number for number, _, _ in matches}
        guarded = self._guarded
        if not guarded.isdisjoint(numbers):
            straddle = self._ordinary_words.straddle
            matches = [match for match in matches if not (match[0] in guarded and straddle(reading, *match[1:]))]
            numbers = {number for number, _, _ in matches}
        return matches, numbers

    def _broken(
        self, matches: list[_Match], numbers: set[int], reached: Mapping[str, float]
    ) -> Iterable[tuple[Rule, list[_Span]]]:
        """The rules that matches break, with the places of their last words; none that score what is reached."""
        anchors = numbers & self._anchors
        if not anchors:
            return
        bits, owners, found = self._bits, self._owners, 0
        for number in numbers:
            found |= bits[number]
        ends = [start for number, start, _ in matches if self._end in owners[number]] if found >> self._end else []
        places: _Positions = {}
        for number in anchors:
            for compiled in self._anchored[number]:
                rule, sets, needed, unless = compiled
                if needed & found != needed or unless & found or reached.get(rule.category, 0.0) >= rule.score:
                    continue
                for name in sets:
                    if name not in places:
                        places[name] = [(start, end) for term, start, end in matches if name in owners[term]]
                spans = _follow(compiled, places, ends)
                if spans:
                    yield rule, spans

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


@cache
def load_text_rules() -> TextRules:
    """The bundled rules, lists and weights, read once in a process."""
    return TextRules(read_lists(read_rules()), read_weights())


def _judged(text: str) -> list[str]:
    """What is judged as one: a text of some sentences whole, of a longer one its passages."""
    return [text] if len(text) <= _WHOLE_CHARS else [mark_sentences(passage) for passage in passages(text)]


def _rarest(sets: Sequence[str], book: RuleBook) -> str:
    """The set that a rule is looked up by: one that few texts hold. Shared sets and short words stand in many."""

    def commonness(name: str) -> tuple[bool, float]:
        terms = (term for part in name.split("|") for term in book.words[part])
        return name.startswith(f"{SHARED}."), sum(4.0 ** -len(term) for term in terms)

    return min(sets, key=commonness)


def _follow(compiled: _Compiled, positions: _Positions, sentence_ends: list[int]) -> list[_Span]:
    """Where the last set stands after all others as the rule wants them, in one sentence; all are found."""
    rule, sets, _, _ = compiled
    spans = positions[sets[0]]
    for name, gap, either_side in zip(sets[1:], rule.gaps, rule.either_side, strict=True):
        if sentence_ends or len(spans) * len(positions[name]) <= _FEW_PAIRS:
            spans = [
                span
                for span in positions[name]
                if any(
                    _are_near(other, span, gap, either_side) and not _is_between(sentence_ends, other, span)
                    for other in spans
                )
            ]
        else:
            starts, ends = (sorted(places) for places in zip(*spans, strict=True))
            spans = [
                (start, end)
                for start, end in positions[name]
                if _any_within(ends, start - gap, start + 1)
                or (either_side and _any_within(starts, end - 1, end + gap))
            ]
        if not spans:
            return []
    return spans


def _sentence_around(reading: str, span: _Span) -> _Span:
    """Where the sentence of a span is, with the spaces before its first word and after its last."""
    mark = f" {SENTENCE_END} "
    before, after = reading.rfind(mark, 0, span[0] + 1), reading.find(mark, span[1] - 1)
    return before + len(mark) - 1 if before >= 0 else 0, after + 1 if after >= 0 else len(reading)


def _are_near(one: _Span, other: _Span, gap: int, either_side: bool) -> bool:
    """Neighbouring Latin words share the space between them."""
    return other[0] - gap <= one[1] <= other[0] + 1 or (either_side and other[1] - 1 <= one[0] <= other[1] + gap)


def _is_between(sentence_ends: list[int], one: _Span, other: _Span) -> bool:
    return bool(sentence_ends) and _any_within(sentence_ends, min(one[1], other[1]) - 1, max(one[0], other[0]))


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


def _digest(book: RuleBook, ordinary_words: frozenset[str], weights: WeightsFile | None) -> str:
    examples = {"blocks", "passes"}
    rules = [{key: value for key, value in rule.__dict__.items() if key not in examples} for rule in book.rules]
    content = json.dumps([book.words, rules, book.allowed, sorted(ordinary_words)], sort_keys=True)
    weighed = b"" if weights is None else msgspec.json.encode(weights)
    return hashlib.sha256(content.encode() + weighed).hexdigest()[:12]
