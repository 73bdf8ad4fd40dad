"""Word lists that packages carry, each word in a category that a person gave it.

Covered: the English and Chinese lists of glin-profanity (MIT), read from its data files; its code is not used.
Not covered: weapons, drugs, violence, self-harm and crime, to which the list is blind: the rule files have those.
`rules/lists/*.yaml` says what a list's words are. A word that the file does not name is of the list's usual category;
words with an everyday meaning score low and count only where the threshold is lowered.
"""

import json
import re
from collections import defaultdict
from dataclasses import replace
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import yaml

from safety.categories import CATEGORIES
from safety.text.rule_files import RULES_DIR, Rule, RuleBook, RuleError

LISTS_DIR = RULES_DIR / "lists"
EVERYDAY_SCORE = 0.4
_PLAIN_WORD = re.compile(r"[\w '-]+")


def read_lists(book: RuleBook, folder: Path = LISTS_DIR) -> RuleBook:
    """The book with the packaged lists added as sets, and a rule for each of them.

    Raises:
        RuleError: a review names a category that is not ours, or a lifting set that no rule file has.
    """
    words, rules, allowed = dict(book.words), list(book.rules), list(book.allowed)
    for path in sorted(folder.glob("*.yaml")):
        review = yaml.load(path.read_text("utf-8"), Loader=yaml.CSafeLoader)
        sets = _sorted(review, _packaged_words(review["package"], review["file"]))
        for (category, score), terms in sets.items():
            if category not in CATEGORIES:
                raise RuleError(f"{path.name}: {category!r} is not one of {', '.join(sorted(CATEGORIES))}")
            name = f"{path.stem}.{category}.{score:g}"
            words[name] = tuple(terms)
            lifting = tuple(review.get("unless", {}).get(category, ()))
            if unknown := set(lifting) - set(book.words):
                raise RuleError(f"{path.name}: {category} is lifted by {', '.join(sorted(unknown))}, which no file has")
            rules.append(Rule(name, category, score, (name,), unless=lifting, is_weak=True))
        allowed += review.get("allow", [])
    categories = tuple(sorted({rule.category for rule in rules}))
    return replace(book, words=words, rules=tuple(rules), allowed=tuple(allowed), categories=categories)


def _packaged_words(package: str, file: str) -> list[str]:
    path = Path(str(distribution(package).locate_file(file)))
    content: dict[str, list[str]] = json.loads(path.read_text("utf-8"))
    return content["words"]


def _sorted(review: dict[str, Any], listed: list[str]) -> dict[tuple[str, float], list[str]]:
    """A list's words by category and score.

    One letter or character alone says nothing. A word written with signs is left out: its signs would fall away, and
    `normalise.py` reads it as the word that is meant.
    """
    reviewed = {str(word): category for category, words in review["categories"].items() for word in words}
    everyday = {str(word) for word in review["everyday"]}
    sets: dict[tuple[str, float], list[str]] = defaultdict(list)
    for word in listed:
        if len(word) > 1 and _PLAIN_WORD.fullmatch(word):
            category = reviewed.get(word, review["usual_category"])
            sets[category, EVERYDAY_SCORE if word in everyday else 1.0].append(word)
    return sets
