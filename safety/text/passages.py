"""A long text cut into passages of a few sentences, each to be judged like a short text.

Covered: line breaks, the ends of English and Chinese sentences, and cuts at a space or anywhere in what has neither.
Neighbouring passages share a half, so that words near each other are read together.
Not covered: what a sentence means, abbreviations ("e.g. this" parts a sentence in two; the shared half mends it).
"""

import re

from safety.text.language import HAN

PIECE_CHARS = 160
# Stands for the end of a sentence in a text whose signs are lost; no word of a language.
SENTENCE_END = "zqxz"
# Beside a run of characters; between words that spaces part to hide them there is none so long
_CHINESE_GAP = re.compile(f"(?<=[{HAN}]{{4}})[ \u3000]+(?=[{HAN}])|(?<=[{HAN}])[ \u3000]+(?=[{HAN}]{{4}})")
_SENTENCE = re.compile(r"[^\n。！？!?；;]*?(?:[.!?;]+(?=\s)|[。！？；]+|\n+|$)")


def passages(text: str) -> list[str]:
    """Overlapping passages of two pieces of about `PIECE_CHARS` characters; all of the text is in them."""
    pieces = _pieces(text)
    return ["".join(pieces[place : place + 2]) for place in range(max(1, len(pieces) - 1))]


def mark_sentences(passage: str) -> str:
    """The passage with `SENTENCE_END` as a word of its own between sentences, and where spaces part Chinese ones."""
    end = f" {SENTENCE_END} "
    return _CHINESE_GAP.sub(end, end.join(_sentences(passage)))


def _pieces(text: str) -> list[str]:
    """Sentences put together until they are long enough, or cut where one is too long."""
    pieces = [""]
    for sentence in _sentences(text):
        for part in _cut(sentence):
            if len(pieces[-1]) + len(part) > PIECE_CHARS and pieces[-1]:
                pieces.append("")
            pieces[-1] += part
    return pieces


def _sentences(text: str) -> list[str]:
    return [match[0] for match in _SENTENCE.finditer(text) if match[0]]


def _cut(sentence: str) -> list[str]:
    parts = []
    while len(sentence) > PIECE_CHARS:
        place = sentence.rfind(" ", PIECE_CHARS // 2, PIECE_CHARS) + 1 or PIECE_CHARS
        parts.append(sentence[:place])
        sentence = sentence[place:]
    return [*parts, sentence]
