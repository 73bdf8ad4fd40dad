"""Ordinary Chinese words, by which a term is told from the same characters at the joint of two words.

Covered: 满足 and 交通 are words, so that 足交 is none in 满足交通; the same where a word begins before a term or ends
after it. Where both readings are words (偷拍 and 照片, 拍照 and 片), the term stands.
Not covered: words around a whole term (水乳交融), which the rule files allow, and words that are not in the list.

The list, `ordinary_chinese.txt`, is the more frequent part of the dictionary of jieba (MIT License), with additions.
"""

from collections.abc import Iterable
from pathlib import Path

WORDS_PATH = Path(__file__).with_name("ordinary_chinese.txt")
_MAX_WORD_CHARS = 4


def read_ordinary_words(path: Path = WORDS_PATH) -> frozenset[str]:
    """The words of the list; lines that begin with # are none."""
    lines = path.read_text("utf-8").splitlines()
    return frozenset(word for line in lines if not line.startswith("#") for word in line.split())


class OrdinaryWords:
    """Words of two to four characters, to be asked where they part what looks like a term."""

    def __init__(self, words: Iterable[str], terms: Iterable[str] = ()) -> None:
        """Terms are words as well, but part no other term."""
        terms = frozenset(terms)
        self._words = frozenset(words) - terms
        self._all = self._words | terms
        self._pairs = {word[place : place + 2] for word in self._words for place in range(len(word) - 1)}

    def straddle(self, text: str, start: int, end: int) -> bool:
        """True where the characters from start to end, a term at first sight, are parts of words instead."""
        return (text[start - 1 : start + 1] in self._pairs and self._at_start(text, start, end)) or (
            text[end - 1 : end + 1] in self._pairs and self._at_end(text, start, end)
        )

    def _at_start(self, text: str, start: int, end: int) -> bool:
        """A word that begins before the term ends in it, and no longer one before it ends where the term begins."""
        for first in range(max(0, start - _MAX_WORD_CHARS + 1), start):
            for last in range(start + 1, min(end, first + _MAX_WORD_CHARS + 1)):
                if text[first:last] in self._words:
                    earlier = range(max(0, start - _MAX_WORD_CHARS), first)
                    return not any(text[before:start] in self._all for before in earlier)
        return False

    def _at_end(self, text: str, start: int, end: int) -> bool:
        """A word that begins in the term ends after it, and none begins where the term ends."""
        for first in range(start + 1, end):
            for last in range(end + 1, first + _MAX_WORD_CHARS + 1):
                if text[first:last] in self._words:
                    return not any(text[end:stop] in self._all for stop in range(end + 2, end + _MAX_WORD_CHARS + 1))
        return False
