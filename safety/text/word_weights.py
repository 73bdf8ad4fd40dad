"""How much the words of a text speak for harm, as learned from labelled texts: a logistic regression beside the rules.

Covered: which sets of the rules' words a text has words of, its words and pairs of neighbouring words, and of Chinese
one to three neighbouring characters. So it tells "kill the process" from "kill the witness" where no rule does, and
lifts rules that a text breaks with words that otherwise speak for no harm.
Not covered: order beyond neighbours, long texts, other languages, and whatever the labelled texts hold nothing like.
`python -m safety.fit_weights` makes the file.
"""

import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
from ahocorasick_rs import AhoCorasick

from safety.text.language import HAN

WEIGHTS_FILE = Path(__file__).with_name("word_weights.json")
NGRAM_CHARS = 3  # of Chinese, at most
_HAN_RUN = re.compile(f"[{HAN}]+")
_LATIN_WORDS = re.compile("[a-z0-9]+(?: [a-z0-9]+)*")


class Weight(NamedTuple):
    """Of a set or of words: what it adds, and the category of harm that it speaks for most; -1 where for none."""

    harm: float
    category: int


class WeightsFile(msgspec.Struct, frozen=True):
    """What is stored.

    Attributes:
        fitted_on: of the texts and the rules' words that the weights were fitted on (fit_weights.py).
        bias: what every text begins with, and what is added to one with Chinese.
        limit: beyond it a text is held for unsafe.
        of_rule: what a broken rule adds, times its score.
        least_of_terms: below it a text passes, whatever its other words speak for; most do, and cost no more time.
        categories: that weights name by their place.
        sets, words: their weights. A set counts once for each of its terms that a text has; those of words are
            divided by the square root of how many of them it has.
    """

    fitted_on: str
    bias: float
    bias_chinese: float
    limit: float
    of_rule: float
    least_of_terms: float
    categories: tuple[str, ...]
    sets: dict[str, Weight]
    words: dict[str, Weight]


def read_weights(path: Path = WEIGHTS_FILE) -> WeightsFile:
    """Raises OSError, msgspec.DecodeError."""
    return msgspec.json.decode(path.read_bytes(), type=WeightsFile)


def words_of(reading: str) -> set[str]:
    """What a reading (normalise.py) has weights by: words and pairs of them, runs of Chinese characters."""
    if reading.isascii():
        words = reading.split()
        return {*words, *map(" ".join, zip(words, words[1:], strict=False))}
    found: set[str] = set()
    for run in _LATIN_WORDS.findall(reading):
        words = run.split()
        found.update(words, map(" ".join, zip(words, words[1:], strict=False)))
    for run in _HAN_RUN.findall(reading):
        for length in range(1, NGRAM_CHARS + 1):
            found.update(run[place : place + length] for place in range(len(run) - length + 1))
    return found


class WordWeights:
    """Weighs texts by a file's weights. Safe to use from several threads.

    Args:
        sets_of_terms: for each term of the rules the names of the sets that it belongs to.
    """

    def __init__(self, file: WeightsFile, sets_of_terms: Sequence[Sequence[str]]) -> None:
        self._file = file
        self._of_terms = [[file.sets[name] for name in sets if name in file.sets] for sets in sets_of_terms]
        self._of_words = list(file.words.values())
        self._harm_of_terms = [sum(weight.harm for weight in weights) for weights in self._of_terms]
        self._harm_of_words = [weight.harm for weight in self._of_words]
        patterns = [f" {words} " if words.isascii() else words for words in file.words]
        self._automaton = AhoCorasick(patterns, store_patterns=False)

    def is_harm(self, terms: Iterable[int], reading: str, rule_score: float) -> bool:
        """Whether a text is held for unsafe.

        Args:
            terms: those of the rules that it has, in any reading.
            rule_score: the highest score of a rule that it breaks; 0: none.
        """
        file, of_terms, of_words = self._file, self._harm_of_terms, self._harm_of_words
        harm = sum([of_terms[number] for number in terms])
        if harm < file.least_of_terms and not rule_score:
            return False
        words = self._words_in(reading)
        harm += file.bias + sum([of_words[number] for number in words]) / math.sqrt(len(words) or 1)
        if not reading.isascii():
            harm += file.bias_chinese
        return harm + file.of_rule * rule_score > file.limit

    def category(self, terms: Iterable[int], reading: str) -> str:
        """That for which most of a text's words speak."""
        speaking = [0.0] * len(self._file.categories)
        words = self._words_in(reading)
        weighed = [(weight, 1.0) for number in terms for weight in self._of_terms[number]]
        weighed += [(self._of_words[number], 1 / math.sqrt(len(words))) for number in words]
        for weight, scale in weighed:
            if weight.category >= 0:
                speaking[weight.category] += weight.harm * scale
        return self._file.categories[speaking.index(max(speaking))]

    def _words_in(self, reading: str) -> set[int]:
        matches = self._automaton.find_matches_as_indexes(reading, overlapping=True)
        return {number for number, _, _ in matches}
