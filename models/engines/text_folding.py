"""Texts spelled as a checkpoint's training spelled them, for the model alone to read.

Folded: the case of letters, traditional Chinese characters. A character changes only into one that the vocabulary has,
so what the model does not know stays as it was written, and a text keeps its length.
"""

import re
from collections.abc import Callable, Collection, Iterable
from importlib.metadata import distribution
from pathlib import Path

from models.checkpoints.training_text import TrainingText
from models.jobs import OnOffAuto
from models.networks.cpm_bee.tokenizer import Tokenizer

Fold = Callable[[str], str]

_HAN = re.compile("[\u3400-\u9fff]")


def text_folding(training_text: TrainingText, tokenizer: Tokenizer, fold_traditional: OnOffAuto = "auto") -> Fold:
    """What a text goes through on its way to the model.

    Args:
        fold_traditional: `on`, `off`, or `auto`: where the checkpoint was trained on simplified Chinese alone.
    """
    entries = tokenizer.plain_entries
    folds: list[Fold] = []
    if fold_traditional == "on" or (fold_traditional == "auto" and training_text.simplified_chinese):
        folds.append(_chinese_folding(entries))
    if training_text.letter_case != "mixed":
        folds.append(_case_folding(entries))
    if training_text.letter_case == "sentence":
        folds.append(_capital_folding(entries))

    def fold(text: str) -> str:
        for one in folds:
            text = one(text)
        return text

    return fold


def _case_folding(entries: Collection[str]) -> Fold:
    """Small letters, but in the words that the vocabulary spells with capitals alone."""
    letters = {ord(entry.upper()): entry for entry in entries if len(entry) == 1 and _is_small(entry)}
    small: dict[str, str] = {}
    for entry in entries:
        if len(entry) > 1 and len(entry.lower()) == len(entry):
            small.setdefault(entry.lower(), entry)
    capital = {word: entry for word, entry in small.items() if word not in entries}
    spaced = [word for word in capital if word[0] == " "]
    # Behind a space stands the entry that begins with one, where there is such an entry
    unspaced = [word for word in capital if word[0] != " " and f" {word}" in small]
    others = [word for word in capital if word[0] != " " and f" {word}" not in small]
    either = f"{_one_of(spaced)}|(?<![a-z ]){_one_of(unspaced)}|(?<![a-z]){_one_of(others)}"
    words = re.compile(f"(?:{either})(?![a-z])")
    return lambda text: words.sub(lambda match: capital[match[0]], text.translate(letters))


def _one_of(words: Iterable[str]) -> str:
    """A pattern of words, of which the longest counts."""
    return f"(?:{'|'.join(map(re.escape, sorted(words, key=len, reverse=True))) or '(?!)'})"


def _is_small(letter: str) -> bool:
    return letter != letter.upper() and letter == letter.upper().lower()


def _capital_folding(entries: Collection[str]) -> Fold:
    """A capital first letter, where no Chinese is among the words."""

    def fold(text: str) -> str:
        capital = text[:1].upper()
        return capital + text[1:] if capital in entries and not _HAN.search(text) else text

    return fold


def _chinese_folding(entries: Collection[str]) -> Fold:
    """Traditional to simplified, by phrases where characters alone would err; the tables of OpenCC (Apache-2.0)."""

    def is_known(simplified: str, traditional: str) -> bool:
        return all(s == t or s in entries for s, t in zip(simplified, traditional, strict=True))

    characters = {ord(t): s for t, s in _table("TSCharacters.txt").items() if is_known(s, t)}
    phrases = {t: s for t, s in _table("TSPhrases.txt").items() if is_known(s, t)}
    parts = re.compile(f"({_one_of(phrases)})")

    def fold(text: str) -> str:
        if text.isascii():
            return text
        return "".join(phrases.get(part) or part.translate(characters) for part in parts.split(text))

    return fold


def _table(name: str) -> dict[str, str]:
    """Traditional -> simplified, in the commonest of its forms."""
    package = distribution("opencc-python-reimplemented")
    lines = Path(str(package.locate_file(f"opencc/dictionary/{name}"))).read_text("utf-8").splitlines()
    return {traditional: forms.split()[0] for traditional, forms in (line.split("\t") for line in lines if line)}
