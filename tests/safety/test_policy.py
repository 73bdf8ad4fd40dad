"""The policy file: what is refused at start, and what its verdicts say."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from safety.categories import CATEGORIES, GUARD_CATEGORIES
from safety.policy import DEFAULT_POLICY, OPTIONAL_SCREENS, SCREENS, Policy, PolicyError, _Loader, load_policy
from safety.verdict import IMAGE_STAGES, TEXT_STAGES, Finding, Verdict


@pytest.fixture
def content() -> Any:
    return yaml.load(DEFAULT_POLICY.read_text("utf-8"), Loader=_Loader)


def changed(content: Any, path: str, value: object) -> Any:
    """A copy with the value at a path of keys joined by `/`; None takes the key away."""
    content = copy.deepcopy(content)
    *way, last = path.split("|")
    place = content
    for key in way:
        place = place[key]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return content


def test_the_default_policy_blocks_sexual_content_about_minors_wherever_it_is_shown() -> None:
    policy = load_policy()
    for stage in TEXT_STAGES + IMAGE_STAGES:
        assert policy.action(stage, "sexual/minors") == ("flag" if stage == "negative_prompt" else "block")
        assert {policy.action(stage, category) for category in CATEGORIES} <= {"block", "flag", "off"}


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        ("thresholds|rules", None, "rules is missing"),
        ("thresholds|magic", {"default": 0.5}, "magic is unknown"),
        ("thresholds|rules", {"sexual": 0.5}, "default is missing"),
        ("thresholds|rules", {"default": 1.5}, "<= 1"),
        ("thresholds|rules", {"default": "high"}, "Expected `float`"),
        ("thresholds|rules", {"default": 0.5, "rude": 0.5}, "rude is unknown"),
        ("actions|default|sexual", None, "sexual is missing"),
        ("actions|default|sexual", "blok", "Invalid enum value 'blok'"),
        ("actions|default|rude", "block", "rude is unknown"),
        ("actions|stages|answer", {"rude": "block"}, "actions of answer: rude is unknown"),
        ("actions|stages|reply", {"sexual": "block"}, "Invalid enum value 'reply'"),
        ("texts|input|zh", None, "missing required field `zh`"),
        ("texts|input|en", "", "length >= 1"),
        ("texts|categories", [{"categories": ["rude"], "en": "a", "zh": "b"}], "rude is unknown"),
        ("texts", None, "missing required field `texts`"),
        ("labels|image-classifier", {"nsfw": "rude"}, "labels of image-classifier: rude is unknown"),
        ("labels|open-nsfw", {"nsfw": "sexual"}, "labels: open-nsfw is unknown"),
        ("thresholds|qwen3guard", {"default": 2}, "<= 1"),
        ("extra", 1, "unknown field `extra`"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_place(content: Any, path: str, value: object, complaint: str) -> None:
    with pytest.raises(PolicyError, match=re.escape(complaint)):
        Policy(changed(content, path, value))


@pytest.mark.parametrize("text", [None, "", "[1", "a: 1\na: 2", "\xff", "- 1", "just words"])
def test_a_file_that_is_no_policy_is_refused_by_name(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "policy.yaml"
    if text is not None:
        path.write_bytes(text.encode("latin-1"))
    with pytest.raises(PolicyError, match=re.escape(str(path))):
        load_policy(path)


def test_the_version_follows_what_is_said_not_how(content: Any, tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("# a comment\n" + yaml.safe_dump(content), "utf-8")
    assert load_policy(path).version == load_policy().version == Policy(content).version
    assert Policy(changed(content, "actions|default|profanity", "off")).version != load_policy().version


def decide(stage: Any, scores: dict[str, float], screen: str = "rules", language: str = "en") -> Verdict:
    return load_policy().decide(stage, [Finding(screen, scores)], language)


def test_found_blocked_and_off_are_told_apart() -> None:
    blocked = decide("prompt", {"sexual": 1.0, "profanity": 1.0, "hate": 0.4})
    assert blocked.decision == "block" and blocked.found == ("sexual", "profanity") and blocked.message
    flagged = decide("prompt", {"sexual": 0.4, "profanity": 1.0})
    assert flagged.decision == "flag" and flagged.found == ("profanity",) and flagged.message == ""
    off = decide("negative_prompt", {"sexual": 1.0})
    assert off.decision == "pass" and off.found == ()


def test_a_score_counts_above_its_threshold_only() -> None:
    assert not decide("prompt", {"unsafe": 0.75}, "prompt-checker").is_blocked
    assert decide("prompt", {"unsafe": 0.7501}, "prompt-checker").is_blocked
    assert decide("candidate", {"sexual": float("nan")}, "open-nsfw").is_blocked


def test_the_highest_score_is_told_and_any_screen_may_block() -> None:
    policy = load_policy()
    findings = [Finding("image-safety-classifier", {"sexual": 0.84}), Finding("open-nsfw", {"sexual": 0.81})]
    verdict = policy.decide("candidate", findings)
    assert verdict.is_blocked and verdict.scores == {"sexual": 0.84}
    assert verdict.model == "image-safety-classifier+open-nsfw" and verdict.policy == policy.version


def test_no_finding_and_unknown_screens_fail() -> None:
    with pytest.raises(PolicyError, match="no screen judged the prompt"):
        load_policy().decide("prompt", [])
    with pytest.raises(PolicyError, match="no thresholds for the screen 'magic'"):
        load_policy().decide("prompt", [Finding("magic", {"sexual": 0.0})])


def test_users_are_told_in_their_language_and_by_category() -> None:
    chinese = decide("question", {"self-harm/intent": 1.0}, language="zh")
    english = decide("question", {"self-harm/intent": 1.0}, language="ja")
    assert "热线" in chinese.message and "crisis line" in english.message
    assert decide("question", {"self-harm/intent": 1.0, "sexual/minors": 1.0}).message.startswith(
        "Sexual content about"
    )
    general = {decide(stage, {"illicit": 1.0}).message for stage in TEXT_STAGES + IMAGE_STAGES}
    assert len(general) == 3


def test_every_screen_has_thresholds_in_the_box(content: Any) -> None:
    assert set(content["thresholds"]) == set(SCREENS)


def test_a_file_from_before_guards_is_completed(content: Any) -> None:
    """Those who have a policy of their own need not change it for a release."""
    old = copy.deepcopy(content)
    del old["labels"]
    for screen in OPTIONAL_SCREENS:
        del old["thresholds"][screen]
    for category in GUARD_CATEGORIES:
        del old["actions"]["default"][category]
    assert Policy(old).version == Policy(content).version
    old["thresholds"]["qwen3guard"] = {"default": 0.4}
    controversial = [Finding("qwen3guard", {"sexual": 0.5})]
    assert Policy(old).decide("prompt", controversial).is_blocked
    assert not Policy(content).decide("prompt", controversial).is_blocked


def test_politics_copyright_jailbreaks_and_advice_are_off_and_privacy_is_not(content: Any) -> None:
    for category in GUARD_CATEGORIES:
        verdict = Policy(content).decide("question", [Finding("qwen3guard", {category: 1.0}, "v")])
        assert verdict.decision == ("block" if category == "privacy" else "pass")
        assert verdict.found == (("privacy",) if category == "privacy" else ()) and verdict.versions == {
            "qwen3guard": "v"
        }


def test_other_labels_are_another_version_and_a_score_that_is_no_number_blocks(content: Any) -> None:
    other = changed(content, "labels|image-classifier|gore", "violence")
    assert Policy(other).version != Policy(content).version
    findings = [Finding("image-classifier", {"nsfw": float("nan"), "porn": 0.0})]
    assert Policy(content).decide("candidate", findings).is_blocked
    full = [Finding("image-classifier", {"nsfw": 0.9, "porn": 0.9})]
    assert Policy(content).decide("candidate", full).scores["sexual"] == 1.0
