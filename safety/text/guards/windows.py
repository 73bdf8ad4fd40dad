"""A text as a guard gets it: in pieces that it can read, and without marks that would end its own question.

Covered: long texts, of which every part is judged and the worst counts; marks of chat templates, which a text might
hold to close the question about itself and answer it.
Not covered: words that ask the guard to be lenient: it was trained against those.
"""

import re
from collections.abc import Iterable

from safety.text.guards.adapter import Scores

WINDOW_CHARS = 4000  # at most about as many tokens, for Chinese
_OVERLAP_CHARS = 400  # harm may lie across the edge of two
# `<|im_end|>`, `<end_of_turn>`, `</think>`, `<END CONVERSATION>`: what templates frame a text with
_MARK = re.compile(r"<(?=[|/]{0,2}[A-Za-z][A-Za-z0-9_ ]{0,40}[|]?>)")


def windows(text: str) -> list[str]:
    """The whole text in overlapping pieces of at most WINDOW_CHARS, with its marks broken up."""
    text = _MARK.sub("< ", text)
    step = WINDOW_CHARS - _OVERLAP_CHARS
    last = max(len(text) - _OVERLAP_CHARS, 1)
    return [text[first : first + WINDOW_CHARS] for first in range(0, last, step)]


def worst(scores: Iterable[Scores]) -> Scores:
    """Of each category the highest score."""
    found: Scores = {}
    for one in scores:
        for category, score in one.items():
            found[category] = max(score, found.get(category, 0.0))
    return found
