"""From verdicts to scores: what counts where, by hand."""

from typing import Any

import numpy as np
import pytest

from models.datasets.examples import Language, Round
from models.emoji.drawings import Style
from models.emoji.names import EmojiName
from models.evaluation.emoji.answers import Verdict
from models.evaluation.emoji.benchmark import Answered, Tongue
from models.evaluation.emoji.painting import Painting
from models.evaluation.emoji.report import Score
from models.evaluation.emoji.scores import answer_scores, classifier_scores, is_weak, name_records, painting_scores

APPLE = EmojiName("1f34e", "red apple", "红苹果", "Food & Drink")
CAT = EmojiName("1f408", "cat", "猫", "Animals & Nature")
RIGHT, NEARLY, WRONG = Verdict(True, True), Verdict(False, True), Verdict(False, False)
PIXELS = np.zeros((1, 1, 3), np.uint8)


def answered(
    item: int,
    kind: str,
    verdict: Verdict,
    language: Language = "en",
    style: Style = "twemoji",
    name: EmojiName | None = None,
) -> Answered:
    return Answered(item, style, Round("q", "a", kind, language), "said", verdict, name)


def painting(
    name: EmojiName, by_chat: bool, by_classifier: bool, language: Tongue = "en", answer: str = "said"
) -> Painting:
    return Painting(name, language, PIXELS, answer, "code", by_chat, by_classifier)


def cells(scores: list[Score]) -> dict[tuple[str, str, str, str], tuple[int, float, float | None]]:
    """(measure, language, style, group) -> count, correct, exact; each at most once."""
    found = {
        (one.measure, one.language, one.style, one.group): (
            one.count,
            one.correct.value,
            one.exact.value if one.exact else None,
        )
        for one in scores
    }
    assert len(found) == len(scores)
    return found


def test_answers_are_counted_by_kind_language_and_style() -> None:
    found = cells(
        answer_scores(
            [
                answered(0, "name", RIGHT),
                answered(1, "name", NEARLY),
                answered(2, "name", WRONG),
                answered(3, "name", WRONG),
                answered(4, "name", RIGHT, "zh"),
                answered(5, "count", WRONG),
            ],
            ["twemoji"],
        )
    )
    assert found == {
        ("name", "en", "trained", ""): (4, 0.5, 0.25),
        ("name", "zh", "trained", ""): (1, 1.0, 1.0),
        ("count", "en", "trained", ""): (1, 0.0, 0.0),
        ("name", "en", "twemoji", ""): (4, 0.5, 0.25),
        ("name", "zh", "twemoji", ""): (1, 1.0, 1.0),
        ("count", "en", "twemoji", ""): (1, 0.0, 0.0),
    }


def test_trained_styles_count_together_and_the_unseen_one_apart() -> None:
    verdicts: list[tuple[Style, Verdict]] = [("twemoji", RIGHT), ("noto", WRONG), ("openmoji", WRONG)]
    found = cells(
        answer_scores(
            [answered(item, "scene", verdict, style=style) for item, (style, verdict) in enumerate(verdicts)],
            ["twemoji", "noto"],
        )
    )
    assert {style: value for (_, _, style, _), (_, value, _) in found.items()} == {
        "trained": 0.5,
        "twemoji": 1.0,
        "noto": 0.0,
        "openmoji": 0.0,
    }


def test_follow_ups_have_a_measure_each_and_one_that_unites_them() -> None:
    one = [answered(0, "name", RIGHT), answered(0, "translate", RIGHT), answered(1, "follow_side", WRONG)]
    found = cells(answer_scores(one, ["twemoji"]))
    trained = {measure: value for (measure, _, style, _), (_, value, _) in found.items() if style == "trained"}
    assert trained == {"name": 1.0, "translate": 1.0, "follow_side": 0.0, "follow_up": 0.5}
    assert list(trained)[-1] == "follow_up"


def test_questions_about_one_picture_are_resampled_together() -> None:
    apart = [answered(item, "name", RIGHT if item % 2 else WRONG) for item in range(80)]
    together = [answered(item // 8, "name", RIGHT if item // 8 % 2 else WRONG) for item in range(80)]
    narrow, wide = (answer_scores(one, ["twemoji"])[0].correct for one in (apart, together))
    assert narrow.value == wide.value == 0.5
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)


def test_names_are_grouped_over_trained_styles_alone() -> None:
    found = cells(
        answer_scores(
            [
                answered(0, "name", RIGHT, name=APPLE),
                answered(0, "translate", WRONG, "zh", name=APPLE),
                answered(1, "name", WRONG, name=CAT),
                answered(2, "name", WRONG, name=APPLE, style="openmoji"),
                answered(3, "name", WRONG),  # of a mixed conversation: about no name in particular
            ],
            ["twemoji"],
        )
    )
    groups = {(language, group): value for (_, language, _, group), (_, value, _) in found.items() if group}
    assert groups == {("en", "Food & Drink"): 1.0, ("en", "Animals & Nature"): 0.0}


def test_paintings_are_judged_twice_in_all_and_by_group() -> None:
    paintings = [
        painting(APPLE, True, False),
        painting(APPLE, True, True, "zh"),
        painting(CAT, False, True),
        painting(CAT, False, False, "zh"),
    ]
    found = cells(painting_scores(paintings))
    values = {key[:2] + key[3:]: (count, value) for key, (count, value, _) in found.items()}
    assert values["paint.chat", "en", ""] == (2, 0.5)
    assert values["paint.classifier", "en", ""] == (2, 0.5)
    assert values["paint.chat", "zh", "Food & Drink"] == (1, 1.0)
    assert values["paint.classifier", "zh", "Animals & Nature"] == (1, 0.0)
    assert len(values) == 3 * 2 * 2
    assert {exact for _, _, exact in found.values()} == {None}, "a painting has no exact answer"


def test_the_classifier_is_held_against_each_style_and_all_together() -> None:
    found = cells(classifier_scores({"twemoji": [True, True, False], "noto": [False]}))
    assert {style: value for (_, _, style, _), value in found.items()} == {
        "trained": (4, 0.5, None),
        "twemoji": (3, pytest.approx(2 / 3), None),
        "noto": (1, 0.0, None),
    }


def test_each_name_has_its_record() -> None:
    asked = [
        answered(0, "name", RIGHT, name=APPLE),
        answered(1, "name", WRONG, name=APPLE, style="noto"),
        answered(0, "translate", WRONG, "zh", name=APPLE),
        answered(2, "name", RIGHT, "zh", name=APPLE, style="openmoji"),
    ]
    first, second = name_records([APPLE, CAT], asked, ["twemoji", "noto"], [painting(APPLE, True, False, answer="A.")])
    assert first == {
        "code": "1f34e",
        "en": "red apple",
        "zh": "红苹果",
        "group": "Food & Drink",
        "trained": {"en": {"right": 1, "asked": 2}, "zh": {"right": 0, "asked": 0}},
        "openmoji": {"en": {"right": 0, "asked": 0}, "zh": {"right": 1, "asked": 1}},
        "painted": {"en": {"chat": True, "classifier": False, "answer": "A.", "code": "code"}},
    }
    assert set(second) == {"code", "en", "zh", "group"}, "of what was not measured nothing is said"


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({}, False),
        ({"trained": {"en": {"right": 2, "asked": 2}, "zh": {"right": 0, "asked": 0}}}, False),
        ({"trained": {"en": {"right": 2, "asked": 2}, "zh": {"right": 1, "asked": 2}}}, True),
        ({"openmoji": {"en": {"right": 0, "asked": 2}}}, False),
        ({"painted": {"en": {"chat": True, "classifier": True}}}, False),
        ({"painted": {"en": {"chat": True, "classifier": True}, "zh": {"chat": False, "classifier": True}}}, True),
        ({"painted": {"en": {"chat": True, "classifier": False}}}, True),
    ],
)
def test_a_weak_name_was_missed_where_it_was_trained(record: dict[str, Any], expected: bool) -> None:
    assert is_weak(record) is expected
