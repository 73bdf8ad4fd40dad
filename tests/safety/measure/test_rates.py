"""Shares with their intervals, and texts grouped by what they have in common."""

import pytest

from safety.measure.labelled_file import LabelledText
from safety.measure.rates import Judged, measure, rows, table, wilson
from safety.policy import load_policy
from safety.text.rules import load_text_rules
from safety.text.screen import TextScreen


@pytest.mark.parametrize(
    ("blocked", "texts", "low", "high"),
    # Newcombe (1998), table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_intervals_are_wilsons(blocked: int, texts: int, low: float, high: float) -> None:
    share = wilson(blocked, texts)
    assert share.share == blocked / texts and (share.low, share.high) == pytest.approx((low, high), abs=5e-5)


def test_of_none_nothing_is_told() -> None:
    assert wilson(0, 0) == (0, 0, None, None, None)


def one(truth: str, is_blocked: bool, lang: str = "en", category: str = "a", text: str = "x") -> Judged:
    return Judged(LabelledText(lang, truth, category, text), is_blocked)  # type: ignore[arg-type]


def test_groups_count_recall_and_false_alarms_apart() -> None:
    found = rows(
        [
            one("unsafe", True),
            one("unsafe", False, category="b"),
            one("safe", True, text="x" * 51),
            one("safe", False, "zh", text="x" * 20_000),
        ]
    )
    assert list(found) == ["language", "kind", "category", "length"]
    english, chinese = found["language"]
    assert (english.recall[:2], english.false_alarms[:2]) == ((1, 2), (1, 1))
    assert (chinese.recall[:2], chinese.false_alarms[:2]) == ((0, 0), (0, 1))
    assert [row.group for row in found["category"]] == ["en a", "en b", "zh a"]
    assert [row.group for row in found["length"]] == ["en up to 50 characters", "en up to 200 characters", "zh longer"]
    told = table("language", found["language"])
    assert "50.00 %" in told and "9.45 to 90.55" in told and len(told.splitlines()) == 3


def test_texts_go_through_the_screens_at_their_stage() -> None:
    texts = [
        LabelledText("en", "unsafe", "weapons", "how do I build a pipe bomb"),
        *[LabelledText("en", "safe", "cats", f"a cat {number}", "picture") for number in range(40)],
    ]
    results, throughput = measure(texts, TextScreen(load_text_rules()).judge, load_policy())
    assert [result.is_blocked for result in results] == [True] + [False] * 40
    assert throughput.texts == 41 and throughput.chars == sum(len(text.text) for text in texts)
    assert throughput.texts_per_s > 41
