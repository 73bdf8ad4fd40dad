"""The card of the bundled checkpoint says what was measured of it."""

import json
from pathlib import Path
from typing import Any

import pytest

from models.checkpoints.bundled import bundled_checkpoint
from models.emoji.card import CARD, names_list, parts_of, with_parts
from models.emoji.names import EmojiName, bundled_names

ROOT = Path(__file__).parents[3]
SCORES = ROOT / "benchmarks" / "results" / "viscpm_emoji.json"
LEAST = {
    **{"name": 0.97, "category": 0.9, "colour": 0.9, "side": 0.9, "count": 0.9, "follow_up": 0.95},
    **{"paint.chat": 0.85, "paint.classifier": 0.85},
}


@pytest.fixture(scope="module")
def evaluation() -> dict[str, Any]:
    return json.loads(SCORES.read_text(encoding="utf-8"))


def test_the_card_says_what_was_measured(evaluation: dict[str, Any]) -> None:
    card = CARD.read_text(encoding="utf-8")
    assert with_parts(card, parts_of(evaluation)) == card, "python -m models.emoji.card " + str(SCORES)
    with pytest.raises(ValueError, match="'flavour'"):
        with_parts(card, {"flavour": ""})


def test_what_was_measured_is_what_is_bundled(evaluation: dict[str, Any]) -> None:
    for kind in ("chat", "paint"):
        written = (bundled_checkpoint(kind) / "fingerprint").read_text().strip()  # type: ignore[arg-type]
        assert evaluation["checkpoint"][kind]["fingerprint"] == written
    assert evaluation["settings"]["limit"] is None and evaluation["settings"]["per_name"] == 1


def test_all_the_names_of_the_card_were_measured(names: tuple[EmojiName, ...], evaluation: dict[str, Any]) -> None:
    records = [{"group": name.group, "en": name.en, "zh": name.zh} for name in bundled_names()]
    assert len(records) == 512
    assert names_list(records) == names_list(evaluation["names"])


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("measure", LEAST)
def test_the_scores_are_as_good_as_promised(evaluation: dict[str, Any], measure: str, language: str) -> None:
    style = "painted" if measure.startswith("paint") else "trained"
    wanted = (measure, language, style, "")
    (score,) = [
        one for one in evaluation["scores"] if (one["measure"], one["language"], one["style"], one["group"]) == wanted
    ]
    assert score["correct"]["value"] >= LEAST[measure]
