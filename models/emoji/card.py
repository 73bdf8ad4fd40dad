"""The parts of the model card that follow from an evaluation: its scores, and the names that it went through.

python -m models.emoji.card SCORES.json    # writes them into models/emoji/viscpm-emoji/README.md
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from models.checkpoints.bundled import BUNDLED_FOLDER

CARD = BUNDLED_FOLDER / "README.md"
# What is measured, in the order of the card, and how it is called there.
_MEASURES = {
    "name": "name",
    "scene": "thing or things, and the ground's colour",
    "category": "category",
    "colour": "colour of the ground",
    "side": "what is left, what is right",
    "where": "where a thing is",
    "count": "how many",
    "follow_up": "follow-up turns, all kinds",
    "translate": "· the same in the other language",
    "follow_category": "· and its category?",
    "follow_colour": "· and the ground?",
    "follow_side": "· and on the other side?",
}
_TRAINED, _PAINTED, _UNSEEN = "trained", "painted", "openmoji"


def scores_table(evaluation: Mapping[str, Any]) -> str:
    """The scores of `viscpm evaluate emoji --json` as a table of Markdown."""
    overall = (score for score in evaluation["scores"] if not score["group"])
    found = {(score["measure"], score["style"], score["language"]): score for score in overall}
    rows = ["| asked for | English | Chinese |", "|---|---|---|"]

    def add(title: str, measure: str, style: str) -> None:
        cells = [_cell(found.get((measure, style, language))) for language in ("en", "zh")]
        if any(cells):
            rows.append(f"| {title} | {' | '.join(cells)} |")

    for measure, title in _MEASURES.items():
        add(title, measure, _TRAINED)
    add("painted by name, named by viscpm-emoji-chat", "paint.chat", _PAINTED)
    add("painted by name, named by the independent classifier", "paint.classifier", _PAINTED)
    for measure in ("name", "category", "colour", "count"):
        add(f"OpenMoji's drawings, never learnt from: {_MEASURES[measure]}", measure, _UNSEEN)
    classifier = found.get(("classifier", _TRAINED, ""))
    if classifier:
        rows.append(f"\nThe classifier names {_cell(classifier)} of real, unseen compositions rightly.")
    return "\n".join(rows)


def names_list(names: Iterable[Mapping[str, str]]) -> str:
    """Records with `group`, `en`, `zh` as a paragraph for each group."""
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for name in names:
        groups[name["group"]].append(f"{name['en']} {name['zh']}")
    return "\n\n".join(f"**{group}** ({len(found)}): {', '.join(found)}" for group, found in groups.items())


def with_parts(card: str, parts: Mapping[str, str]) -> str:
    """The card with what stands between `<!-- NAME -->` and `<!-- /NAME -->` exchanged. Raises ValueError."""
    for name, text in parts.items():
        before, start, rest = card.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- /{name} -->")
        if not (start and end):
            raise ValueError(f"the card has no part {name!r}")
        card = f"{before}{start}{text}\n{end}{after}"
    return card


def parts_of(evaluation: Mapping[str, Any]) -> dict[str, str]:
    return {"scores": scores_table(evaluation), "names": names_list(evaluation["names"])}


def _cell(score: Mapping[str, Any] | None) -> str:
    if score is None:
        return ""
    correct = score["correct"]
    shares = (int(correct[part] * 1000) / 10 for part in ("value", "low", "high"))
    return "{:.1f} % ({:.1f}–{:.1f})".format(*shares)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write an evaluation's scores into the model card.")
    parser.add_argument("scores", type=Path, help="of viscpm evaluate emoji --json")
    evaluation = json.loads(parser.parse_args().scores.read_text(encoding="utf-8"))
    CARD.write_text(with_parts(CARD.read_text(encoding="utf-8"), parts_of(evaluation)), encoding="utf-8")


if __name__ == "__main__":
    main()
