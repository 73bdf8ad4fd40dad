"""The categories' names: OpenAI's and ours, and nobody's besides."""

import numpy as np
import pytest
from PIL import Image

from safety.categories import CATEGORIES, GUARD_CATEGORIES, OPENAI_CATEGORIES, PROFANITY, UNSAFE
from safety.image.onnx import load_bundled_screens
from safety.text.rules import load_text_rules


def test_openais_are_named_as_openai_names_them() -> None:
    assert len(set(OPENAI_CATEGORIES)) == 13
    assert CATEGORIES - set(OPENAI_CATEGORIES) == {PROFANITY, UNSAFE, *GUARD_CATEGORIES}
    for category in OPENAI_CATEGORIES:
        general, _, _ = category.partition("/")
        assert general in OPENAI_CATEGORIES, f"{category} is part of {general}"


@pytest.mark.slow
def test_the_bundled_screens_judge_every_category_and_no_other() -> None:
    judged = set(load_text_rules().categories)
    picture = Image.fromarray(np.zeros((8, 8, 3), np.uint8))
    for screen in load_bundled_screens():
        judged |= set(screen.scores([picture])[0])
    assert judged <= CATEGORIES
    assert CATEGORIES - judged == {UNSAFE, *GUARD_CATEGORIES}, "those are of screens that are configured"
