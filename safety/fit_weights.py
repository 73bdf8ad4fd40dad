"""Fits the weights by which words speak for harm (text/word_weights.py): `python -m safety.fit_weights`.

It takes the texts of `labelled/` that rules may be written against, and the examples that stand with the rules; never
those that are held apart for measuring. Sentences of this project's documents and of Python's own docstrings are
harmless ones of another kind. Run it again when texts, or the rules' words, have changed; a test says so.

Method: logistic regression with an L2 penalty by L-BFGS, features as word_weights.py has them, words that stand in
fewer than four texts left out. The limit, and what a broken rule adds, are those at which texts of hands that did not
know the rules are told best, each judged by weights that were fitted without it: `--folds` prints what each gives.
"""

import argparse
import hashlib
import json
import math
import re
import sys
import sysconfig
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import torch

from safety.evaluate import LABELLED_DIR, SAFE, TAUGHT, UNREAD, read_labelled
from safety.text.language import HAN
from safety.text.lists import EVERYDAY_SCORE, read_lists
from safety.text.rule_files import RuleBook, read_rules
from safety.text.rules import TextRules
from safety.text.word_weights import WEIGHTS_FILE, Weight, WeightsFile

LIMIT = 3.0
OF_RULE = 3.25
LEAST_OF_TERMS = 2.0
_SCALE_SETS, _SCALE_WORDS = 0.3, 3.0  # of the features: weights of larger ones are penalised less
_PENALTY = 1 / 3
_OF_OURS = 4.0  # what the rules were written against: plain requests above all, which must not be lifted
_MIN_TEXTS = 4  # that hold a word
_ITERATIONS = 300
_FOLDS = 5
_SMALLEST = 0.15  # weights of words below this are not stored
_MOST_SENTENCES = 5000
_MARKS = re.compile(r"```.*?```|[`*#|\[\]<>]|\(.*?\)", re.DOTALL)
_DOCSTRING = re.compile(r'"""(.*?)"""', re.DOTALL)
_ENGLISH_SENTENCE = re.compile(r"(?<=[.!?] )[A-Z][A-Za-z ,;:'-]{25,200}[.!?](?= )")
_CHINESE_SENTENCE = re.compile(f"[{HAN}，、：；]{{8,120}}(?=[。！？])")
CATEGORIES = ("harassment", "hate", "illicit", "illicit/violent", "self-harm", "sexual", "sexual/minors", "violence")
_OF_KIND = {
    "crime": "illicit",
    "deception": "illicit",
    "drugs": "illicit",
    "hacking": "illicit",
    "misinformation": "illicit",
    "privacy": "illicit",
    "weapons": "illicit/violent",
    "minors": "sexual/minors",
    "violence/graphic": "violence",
}


class Text(NamedTuple):
    """One to be learned from. `kind` is the kind of harm, or `safe`; `importance` is how many texts it counts as."""

    text: str
    kind: str
    is_taught: bool = False
    importance: float = 1.0

    @property
    def category(self) -> int:
        """Its place in CATEGORIES; -1: none."""
        name = _OF_KIND.get(self.kind, self.kind)
        name = name if name in CATEGORIES else name.partition("/")[0]
        return CATEGORIES.index(name) if name in CATEGORIES else -1


class Features(NamedTuple):
    """Of one text."""

    sets: Counter[str]
    words: set[str]
    is_chinese: bool
    is_rule_broken: bool


class Fitted(NamedTuple):
    """Weights by features' names, for features as they are told by `values`."""

    places: dict[tuple[str, str], int]
    weights: torch.Tensor

    def harm(self, features: Features) -> float:
        return sum(self.weights[place].item() * value for place, value in _row(features, self.places))


def own_texts(book: RuleBook, folder: Path = LABELLED_DIR) -> list[Text]:
    """What is learned from, each text once; none that is held apart, though it may stand with a rule."""
    found: dict[str, Text] = {}
    apart = {one.text for name in UNREAD for one in read_labelled(folder / f"{name}.jsonl")}
    for path in sorted(folder.glob("*.jsonl")):
        if path.stem not in UNREAD:
            for one in read_labelled(path):
                is_taught = path.stem == TAUGHT
                importance = 1.0 if is_taught else _OF_OURS
                found.setdefault(one.text, Text(one.text, one.kind, is_taught, importance))
    for rule in book.rules:
        for text in rule.blocks:
            found.setdefault(text, Text(text, rule.category, importance=_OF_OURS))
        for text in rule.passes:
            found.setdefault(text, Text(text, SAFE, importance=_OF_OURS))
    return [one for text, one in found.items() if text not in apart]


def plain_sentences(count: int = _MOST_SENTENCES) -> list[Text]:
    """Harmless sentences that nobody wrote as an example, in an order that does not change."""
    english: set[str] = set()
    chinese: set[str] = set()
    for path in (Path(__file__).parents[1] / "docs").rglob("*.md"):
        text = _MARKS.sub("", path.read_text("utf-8"))
        chinese.update(_CHINESE_SENTENCE.findall(text))
        english.update(_ENGLISH_SENTENCE.findall(" ".join(text.split())))
    documents = sorted(english | chinese, key=_digest)
    english.clear()
    for path in Path(sysconfig.get_path("stdlib")).rglob("*.py"):
        if not {"site-packages", "test", "tests"} & set(path.parts):
            for docstring in _DOCSTRING.findall(path.read_text("utf-8", errors="ignore")):
                english.update(_ENGLISH_SENTENCE.findall(" ".join(docstring.split())))
    return [Text(one, SAFE) for one in (*documents, *sorted(english, key=_digest))][:count]


def features_of(texts: Sequence[Text], rules: TextRules) -> list[Features]:
    scores = rules.scores([one.text for one in texts])
    found = []
    for one, score in zip(texts, scores, strict=True):
        sets, words = rules.features(one.text)
        found.append(Features(sets, words, not all(map(str.isascii, words)), max(score.values()) > EVERYDAY_SCORE))
    return found


def fit(features: Sequence[Features], is_unsafe: Sequence[bool], importance: Sequence[float] | None = None) -> Fitted:
    """The weights of the least loss: the problem is convex. `importance`: of each row, 1 where absent."""
    counts = Counter(word for one in features for word in one.words)
    names = [("bias", ""), ("chinese", "")]
    names += [("set", name) for name in sorted({name for one in features for name in one.sets})]
    names += [("word", word) for word, count in sorted(counts.items()) if count >= _MIN_TEXTS]
    places = {name: place for place, name in enumerate(names)}
    rows = [_row(one, places) for one in features]
    matrix = torch.sparse_coo_tensor(
        torch.tensor([[i, place] for i, row in enumerate(rows) for place, _ in row]).T,
        torch.tensor([value for row in rows for _, value in row], dtype=torch.float64),
        (len(rows), len(names)),
        check_invariants=True,
    ).coalesce()
    target = torch.tensor(is_unsafe, dtype=torch.float64)
    counted = None if importance is None else torch.tensor(importance, dtype=torch.float64)
    weights = torch.zeros(len(names), dtype=torch.float64, requires_grad=True)
    penalty = torch.full((len(names),), _PENALTY / 2, dtype=torch.float64)
    penalty[0] = 0.0  # a bias costs nothing
    optimizer = torch.optim.LBFGS([weights], max_iter=_ITERATIONS, history_size=20, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        logits = torch.mv(matrix, weights)
        total = torch.nn.functional.binary_cross_entropy_with_logits(logits, target, counted, reduction="sum")
        total = total + (penalty * weights**2).sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return Fitted(places, weights.detach())


def out_of_fold(texts: Sequence[Text], features: Sequence[Features]) -> list[float]:
    """What each taught text's words speak for harm by weights that were fitted without it; 0 for others."""
    harms = [0.0] * len(texts)
    fold_of = [_digest(one.text) % _FOLDS if one.is_taught else -1 for one in texts]
    for fold in range(_FOLDS):
        rest = [place for place, own in enumerate(fold_of) if own != fold]
        fitted = fit(
            [features[place] for place in rest],
            [texts[place].kind != SAFE for place in rest],
            [texts[place].importance for place in rest],
        )
        for place, own in enumerate(fold_of):
            if own == fold:
                harms[place] = fitted.harm(features[place])
    return harms


def weights_file(texts: Sequence[Text], features: Sequence[Features], fitted_on: str) -> WeightsFile:
    fitted = fit(features, [one.kind != SAFE for one in texts], [one.importance for one in texts])
    categories = _categories(texts, features)
    sets: dict[str, Weight] = {}
    words: dict[str, Weight] = {}
    for (kind, name), place in fitted.places.items():
        harm = fitted.weights[place].item()
        category = categories.get((kind, name), -1) if harm > 0 else -1
        if kind == "set":
            sets[name] = Weight(round(harm * _SCALE_SETS, 3), category)
        elif kind == "word" and abs(harm * _SCALE_WORDS) >= _SMALLEST:
            words[name] = Weight(round(harm * _SCALE_WORDS, 2), category)
    bias, chinese = (round(fitted.weights[place].item(), 3) for place in (0, 1))
    return WeightsFile(fitted_on, bias, chinese, LIMIT, OF_RULE, LEAST_OF_TERMS, CATEGORIES, sets, words)


def fingerprint(texts: Sequence[Text], book: RuleBook) -> str:
    """Of what weights are fitted on."""
    content = json.dumps([sorted(texts), sorted((name, sorted(terms)) for name, terms in book.words.items())])
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def _row(features: Features, places: dict[tuple[str, str], int]) -> list[tuple[int, float]]:
    row = [(0, 1.0)] + ([(1, 1.0)] if features.is_chinese else [])
    row += [(places["set", name], _SCALE_SETS * n) for name, n in features.sets.items() if ("set", name) in places]
    known = [places["word", word] for word in features.words if ("word", word) in places]
    return row + [(place, _SCALE_WORDS / math.sqrt(len(known))) for place in known]


def _categories(texts: Sequence[Text], features: Sequence[Features]) -> dict[tuple[str, str], int]:
    """For each feature the category in whose texts it stands most often, by share."""
    totals = Counter(one.category for one in texts)
    counts: dict[tuple[str, str], Counter[int]] = defaultdict(Counter)
    for one, found in zip(texts, features, strict=True):
        if one.category >= 0:
            for name in _names(found):
                counts[name][one.category] += 1
    return {
        name: max(of_categories, key=lambda category: of_categories[category] / (totals[category] + 20))
        for name, of_categories in counts.items()
    }


def _names(features: Features) -> Iterable[tuple[str, str]]:
    yield from (("set", name) for name in features.sets)
    yield from (("word", word) for word in features.words)


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folds", action="store_true", help="print what each limit would give, and write nothing")
    options = parser.parse_args(arguments)
    book = read_lists(read_rules())
    rules, own = TextRules(book), own_texts(book)
    texts = [*own, *plain_sentences()]
    features = features_of(texts, rules)
    if options.folds:
        sys.stdout.write(_table(texts, features, out_of_fold(texts, features)))
        return 0
    file = weights_file(texts, features, fingerprint(own, book))
    WEIGHTS_FILE.write_bytes(msgspec.json.encode(file).replace(b"],", b"],\n") + b"\n")
    sys.stdout.write(f"{len(texts)} texts, {len(file.sets)} sets, {len(file.words)} words: {WEIGHTS_FILE}\n")
    return 0


def _table(texts: Sequence[Text], features: Sequence[Features], harms: Sequence[float]) -> str:
    """Of taught texts: recall and false alarms by language, for rules alone and for limits."""
    lines = []
    taught = [(one, found, harm) for one, found, harm in zip(texts, features, harms, strict=True) if one.is_taught]
    for is_chinese in (False, True):
        ours = [each for each in taught if each[1].is_chinese == is_chinese]
        sides = [[each for each in ours if (each[0].kind == SAFE) == is_safe] for is_safe in (False, True)]
        lines.append(f"{'Chinese' if is_chinese else 'English'}: {len(sides[0])} unsafe, {len(sides[1])} safe")
        alone = [sum(each[1].is_rule_broken for each in side) / max(1, len(side)) for side in sides]
        lines.append(f"{'rules alone':24}{alone[0]:8.3f}{alone[1]:8.3f}")
        for of_rule in (1.0, 1.5, 2.0, 2.5, 3.0, 3.5):
            for limit in (1.0, 1.5, 2.0, 2.5, 3.0, 3.5):
                shares = [
                    sum(harm + of_rule * found.is_rule_broken > limit for _, found, harm in side) / max(1, len(side))
                    for side in sides
                ]
                lines.append(f"rule {of_rule:3} limit {limit:9}{shares[0]:8.3f}{shares[1]:8.3f}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
