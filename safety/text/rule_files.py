"""The rule files: words of one kind of harm, and the patterns of them that are unsafe.

Covered: reading `safety/rules/*.yaml`, checking them, and writing out the forms of English words.
Not covered: what the patterns find in a text (`rules.py`).

A file names its category, words in sets by language, rules over the sets, and phrases that are safe though they hold
such words. A rule is a set's name, or names joined by `>` (then) and `+` (near, in any order), each with the most
characters that may lie between, if not the usual number: `make >40 weapon`. `a|b` is a word of either set, `crime.a`
the set of another file; `words.yaml` holds sets for all files. With a rule stand texts that it blocks and texts that
pass; the tests run them.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from safety.categories import CATEGORIES

RULES_DIR = Path(__file__).parents[1] / "rules"
LANGUAGES = ("en", "zh")
USUAL_GAP_CHARS = {"en": 28, "zh": 8}
SHARED = "words"
_STEP = re.compile(r"([>+])(\d*)")
_VOWELS = "aeiou"
_Words = dict[str, tuple[str, ...]]


class RuleError(ValueError):
    """A rule file says something that cannot be meant."""


@dataclass(frozen=True)
class Rule:
    """`sets[i + 1]` lies at most `gaps[i]` characters after `sets[i]`, or before it where `either_side[i]`.

    Attributes:
        sets: each the name of a set, or several names with `|` between.
        unless: sets any word of which lifts the rule.
        is_weak: words that ordinary long texts hold as well: in those one alone is not enough.
        blocks: texts that break the rule.
        passes: texts near to those that no rule blocks.
    """

    name: str
    category: str
    score: float
    sets: tuple[str, ...]
    gaps: tuple[int, ...] = ()
    either_side: tuple[bool, ...] = ()
    unless: tuple[str, ...] = ()
    is_weak: bool = False
    blocks: tuple[str, ...] = field(default=(), compare=False)
    passes: tuple[str, ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class RuleBook:
    """All that the rule files say. `words` maps a set's name to its terms as they may be written."""

    words: _Words
    rules: tuple[Rule, ...]
    allowed: tuple[str, ...]
    categories: tuple[str, ...] = field(default=())


def read_rules(folder: Path = RULES_DIR) -> RuleBook:
    """Every rule file of a folder.

    Raises:
        RuleError: a file is malformed, a rule names an unknown set, or a category is not ours.
    """
    files = {path.stem: _read(path) for path in sorted(folder.glob("*.yaml"))}
    if SHARED not in files:
        raise RuleError(f"{folder} lacks {SHARED}.yaml")
    words: _Words = {}
    for kind, content in files.items():
        words |= _words(kind, content)
    rules = tuple(rule for kind, content in files.items() for rule in _rules(kind, content, words))
    allowed = tuple(str(phrase) for content in files.values() for phrase in content.get("allow", []))
    return RuleBook(words, rules, allowed, tuple(sorted({rule.category for rule in rules})))


def _read(path: Path) -> dict[str, Any]:
    content = yaml.load(path.read_text("utf-8"), Loader=yaml.CSafeLoader)
    known = {"category", "words", "rules", "allow"}
    if not isinstance(content, dict) or set(content) - known:
        raise RuleError(f"{path.name}: a rule file has the keys {', '.join(sorted(known))}, got {content!r:.80}")
    return content


def _words(kind: str, content: dict[str, Any]) -> _Words:
    sets: _Words = {}
    words = content.get("words") or {}
    for language, by_form in words.items():
        if language not in LANGUAGES:
            raise RuleError(f"{kind}: words are in {' or '.join(LANGUAGES)}, got {language!r}")
        forms = by_form.items() if language == "en" else [("phrases", by_form)]
        for form, named in forms:
            if form not in _FORMS:
                raise RuleError(f"{kind}: English words are {', '.join(_FORMS)}, got {form!r}")
            for name, terms in named.items():
                written = tuple(dict.fromkeys(w for term in terms for w in _FORMS[form](str(term))))
                sets[_key(kind, language, name)] = sets.get(_key(kind, language, name), ()) + written
    return sets


def _key(kind: str, language: str, name: str) -> str:
    return f"{kind}.{language}.{name}"


def _rules(kind: str, content: dict[str, Any], words: _Words) -> Iterator[Rule]:
    for language, rules in (content.get("rules") or {}).items():
        if language not in LANGUAGES:
            raise RuleError(f"{kind}: rules are for {' or '.join(LANGUAGES)}, got {language!r}")
        for entry in rules:
            yield _rule(kind, language, {"find": entry} if isinstance(entry, str) else dict(entry), content, words)


def _rule(kind: str, language: str, options: dict[str, Any], content: dict[str, Any], words: _Words) -> Rule:
    find, told = str(options.pop("find")), dict(options)
    unless = [name for name in str(options.pop("unless", "")).split("|") if name]
    category = options.pop("category", content.get("category"))
    score, is_weak = float(options.pop("score", 1.0)), bool(options.pop("weak", False))
    blocks, passes = (tuple(map(str, options.pop(key, ()))) for key in ("blocks", "passes"))
    if options or category not in CATEGORIES or not 0 < score <= 1:
        raise RuleError(f"{kind}: {find!r} with {told!r} has an unknown option, category or score")
    names, gaps, either_side = _pattern(find, language)
    sets = tuple("|".join(_resolve(kind, language, part, words) for part in name.split("|")) for name in names)
    lifting = tuple(_resolve(kind, language, name, words) for name in unless)
    name = f"{kind}.{language}: {find}" + (f" unless {'|'.join(unless)}" if unless else "")
    return Rule(name, category, score, sets, gaps, either_side, lifting, is_weak, blocks, passes)


def _pattern(find: str, language: str) -> tuple[list[str], tuple[int, ...], tuple[bool, ...]]:
    names, steps = find.split()[::2], [_STEP.fullmatch(step) for step in find.split()[1::2]]
    if len(names) != len(steps) + 1 or not all(steps):
        raise RuleError(f"a rule is written set > set + set, got {find!r}")
    matched = [step for step in steps if step]
    gaps = tuple(int(step[2] or USUAL_GAP_CHARS[language]) for step in matched)
    return names, gaps, tuple(step[1] == "+" for step in matched)


def _resolve(kind: str, language: str, name: str, words: _Words) -> str:
    file, dot, own_name = name.partition(".")
    for owner in (file,) if dot else (kind, SHARED):
        if (key := _key(owner, language, own_name if dot else name)) in words:
            return key
    raise RuleError(f"{kind}: no set {name!r} in {language}, here or in {SHARED}.yaml")


def _as_written(term: str) -> Sequence[str]:
    return (term,)


def _noun_forms(term: str) -> Sequence[str]:
    """Singular and plural; irregular ones are listed as words of their own."""
    return (term, _with_s(term))


def _verb_forms(term: str) -> Sequence[str]:
    """Base, -s, -ing and -ed of a verb, the first word of a phrasal one."""
    verb, space, rest = term.partition(" ")
    tail = space + rest
    stem = verb[:-1] if verb.endswith("e") and not verb.endswith(("ee", "ye")) else verb
    if _doubles(verb):
        stem = verb + verb[-1]
    past = verb[:-1] + "ied" if verb.endswith("y") and verb[-2] not in _VOWELS else stem + "ed"
    return (term, _with_s(verb) + tail, stem + "ing" + tail, past + tail)


def _with_s(word: str) -> str:
    if word.endswith(("s", "x", "z", "ch", "sh")):
        return word + "es"
    return word[:-1] + "ies" if word.endswith("y") and word[-2:-1] not in _VOWELS else word + "s"


def _doubles(verb: str) -> bool:
    """True for one-syllable verbs that end in one vowel and one consonant: stab, stabbing."""
    if len(verb) < 3 or verb[-1] in _VOWELS + "wxyh" or verb[-2] not in _VOWELS or verb[-3] in _VOWELS:
        return False
    return sum(letter in _VOWELS for letter in verb) == 1


_FORMS = {"verbs": _verb_forms, "nouns": _noun_forms, "phrases": _as_written}
