"""Ordinary Chinese words, by which a term is told from the same characters at the joint of two words.

Covered: 满足 and 交通 are words, so that 足交 is none in 满足交通; the same where a word begins before a term or ends
after it. Where both readings are words (偷拍 and 照片, 拍照 and 片), the term stands.
Not covered: words around a whole term (水乳交融), which the rule files allow, and words that are not in the list.

The list, `ordinary_chinese.txt`, is the more frequent part of the dictionary of jieba (MIT License), with additions.
"""

from pathlib import Path

WORDS_PATH = Path(__file__).with_name("ordinary_chinese.txt")
MAX_WORD_CHARS = 4


def read_ordinary_words(path: Path = WORDS_PATH) -> frozenset[str]:
    """The words of the list; lines that begin with # are none."""
    lines = path.read_text("utf-8").splitlines()
    return frozenset(word for line in lines if not line.startswith("#") for word in line.split())


def straddles(text: str, start: int, end: int, words: frozenset[str]) -> bool:
    """True where the characters from start to end, a term at first sight, are parts of ordinary words instead."""
    before = _word_across(text, start, end, words)
    if before is not None and not _is_word_before(text, before, start, words):
        return True
    for first in range(start + 1, end):
        for last in range(end + 1, min(first + MAX_WORD_CHARS, len(text)) + 1):
            if text[first:last] in words:
                return not any(text[end:stop] in words for stop in range(end + 2, end + MAX_WORD_CHARS + 1))
    return False


def _word_across(text: str, start: int, end: int, words: frozenset[str]) -> int | None:
    """Where an ordinary word begins that ends inside the term."""
    for first in range(max(0, start - MAX_WORD_CHARS + 1), start):
        for last in range(start + 1, min(end, first + MAX_WORD_CHARS + 1)):
            if text[first:last] in words:
                return first
    return None


def _is_word_before(text: str, before: int, start: int, words: frozenset[str]) -> bool:
    """True where a longer word ends where the term begins: read from the left, it comes first."""
    return any(text[first:start] in words for first in range(max(0, start - MAX_WORD_CHARS), before))
