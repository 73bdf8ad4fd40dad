"""A verdict as OpenAI's moderation result."""

import json
from typing import get_args

import pytest

from safety.policy import load_policy
from safety.verdict import IMAGE_STAGES, TEXT_STAGES, Finding, OpenScreens, Picture, Stage, Verdict


def test_the_moderation_result_says_what_was_found_by_whom() -> None:
    verdict = load_policy().decide("question", [Finding("rules", {"sexual": 1.0, "hate": 0.0})], "en")
    moderation = verdict.moderation()
    assert moderation["categories"] == {"sexual": True, "hate": False} and moderation["flagged"] is True
    assert moderation["language"] == "en" and moderation["policy"] == verdict.policy and moderation["model"] == "rules"
    assert moderation["category_applied_input_types"] == {"sexual": ["text"], "hate": ["text"]}
    assert json.dumps(moderation)


@pytest.mark.parametrize("stage", TEXT_STAGES + IMAGE_STAGES)
def test_a_category_was_looked_for_in_what_the_stage_is(stage: Stage) -> None:
    moderation = Verdict(stage, "flag", {"hate": 0.9}, "rules").moderation()
    applied = "image" if stage in IMAGE_STAGES else "text"
    assert moderation["category_applied_input_types"] == {"hate": [applied]} and moderation["stage"] == stage


def test_stages_are_texts_or_pictures() -> None:
    assert set(TEXT_STAGES) | set(IMAGE_STAGES) == set(get_args(Stage)) and not set(TEXT_STAGES) & set(IMAGE_STAGES)


def test_what_was_found_is_what_is_told_or_everything_that_did_not_pass() -> None:
    scores = {"hate": 0.9, "sexual": 0.1}
    assert Verdict("answer", "block", scores, found=("hate",)).moderation()["categories"] == {
        "hate": True,
        "sexual": False,
    }
    assert Verdict("answer", "block", scores).moderation()["categories"] == {"hate": True, "sexual": True}
    assert Verdict("answer", "pass", scores).moderation()["categories"] == {"hate": False, "sexual": False}
    assert Verdict("answer", "pass", scores, found=("hate",)).moderation()["flagged"] is False


def test_what_is_not_known_is_not_told() -> None:
    bare = Verdict("answer", "pass").moderation()
    assert "language" not in bare and "policy" not in bare and "sha256" not in bare
    known = Verdict("answer", "pass", language="zh", policy="abc", sha256="secret").moderation()
    assert (known["language"], known["policy"]) == ("zh", "abc") and "secret" not in str(known)


async def test_open_screens_pass_everything_and_claim_nothing() -> None:
    screens = OpenScreens()
    assert screens.are_open
    assert await screens.text("question", "anything") == Verdict("question", "pass")
    assert await screens.image("candidate", Picture(b"", "png")) == Verdict("candidate", "pass")
