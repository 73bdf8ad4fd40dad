"""How many prompts a second the default text screens judge on one core, beside the same terms searched in other ways.

    python benchmarks/text_screens.py

The labelled prompts of `safety/labelled`, plain and disguised, in batches of 32. Times are CPU time of this one
thread, of each batch the best of several rounds: other work on the same core slows CPU time as well, by a half from one
second to the next. Prints a table for people, then one JSON line.

screens     normalisation, rules and lists, as the safety worker runs them
normalise   the part that brings every text to one spelling and undoes disguises
in, re      baselines: the same terms by a loop of `in` and by one regular expression, without any rule
"""

import json
import re
import time
from collections.abc import Callable, Sequence

from safety.evaluate import LABELLED_DIR, read_labelled
from safety.text.lists import read_lists
from safety.text.normalise import fold, readings, separate
from safety.text.rule_files import read_rules
from safety.text.rules import TextRules
from safety.text.word_weights import read_weights

BATCH = 32
ROUNDS = 7
BASELINE_TEXTS = 64
TARGET = 20_000


def prompts_per_s(judge: Callable[[Sequence[str]], object], texts: Sequence[str], rounds: int = ROUNDS) -> float:
    """By the best time of each batch, in CPU time."""
    batches = [texts[first : first + BATCH] for first in range(0, len(texts), BATCH)]
    best_s = [float("inf")] * len(batches)
    for _ in range(rounds):
        for place, batch in enumerate(batches):
            started_ns = time.process_time_ns()
            judge(batch)
            best_s[place] = min(best_s[place], (time.process_time_ns() - started_ns) / 1e9)
    return len(texts) / sum(best_s)


def labelled(language: str, disguised: bool) -> list[str]:
    return [
        prompt.text
        for path in sorted(LABELLED_DIR.glob("*.jsonl"))
        for prompt in read_labelled(path)
        if prompt.language == language and (prompt.disguise != "plain") == disguised
    ]


def main() -> None:
    started_s = time.process_time()
    book = read_lists(read_rules())
    rules = TextRules(book, read_weights())
    rules.scores(["warm up, 预热"])
    load_s = time.process_time() - started_s
    terms = sorted({separate(fold(term)).strip() for words in book.words.values() for term in words})
    pattern = re.compile("|".join(map(re.escape, terms)))
    sets = {
        f"{name}, {how}": labelled(language, how == "disguised")
        for language, name in (("en", "English"), ("zh", "Chinese"))
        for how in ("plain", "disguised")
    }
    sets["all"] = [text for texts in sets.values() for text in texts]
    print(f"{len(terms)} terms, {len(book.rules)} rules, loaded in {load_s:.2f} s of CPU time")
    print(f"{'prompts/s on a core':24}{'texts':>7}{'screens':>10}{'normalise':>11}{'in':>8}{'re':>8}")
    result: dict[str, dict[str, float]] = {}
    for name, texts in sets.items():
        few = texts[:BASELINE_TEXTS]
        row = {
            "screens": prompts_per_s(rules.scores, texts),
            "normalise": prompts_per_s(lambda batch: [readings(text) for text in batch], texts),
            "in": prompts_per_s(lambda batch: [[term for term in terms if term in text] for text in batch], few, 1),
            "re": prompts_per_s(lambda batch: [pattern.findall(text) for text in batch], few, 1),
        }
        result[name] = row
        print(f"{name:24}{len(texts):7}{row['screens']:10.0f}{row['normalise']:11.0f}{row['in']:8.0f}{row['re']:8.0f}")
    passed = result["all"]["screens"] >= TARGET
    print(json.dumps({"benchmark": "text_screens", "target": TARGET, "passed": passed, **result}))


if __name__ == "__main__":
    main()
