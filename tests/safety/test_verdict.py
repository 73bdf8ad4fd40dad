"""A verdict as OpenAI's moderation result."""

import json

from safety.policy import load_policy
from safety.verdict import Finding


def test_the_moderation_result_says_what_was_found_by_whom() -> None:
    verdict = load_policy().decide("question", [Finding("rules", {"sexual": 1.0, "hate": 0.0})], "en")
    moderation = verdict.moderation()
    assert moderation["categories"] == {"sexual": True, "hate": False} and moderation["flagged"] is True
    assert moderation["language"] == "en" and moderation["policy"] == verdict.policy and moderation["model"] == "rules"
    assert moderation["category_applied_input_types"] == {"sexual": ["text"], "hate": ["text"]}
    assert json.dumps(moderation)
