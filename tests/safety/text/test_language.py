"""Language by script."""

import pytest

from safety.text.language import language_of


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("a cat on a sofa", "en"),
        ("一只猫坐在沙发上", "zh"),
        ("貓咪", "zh"),
        ("画一只cat", "zh"),
        ("draw the character 爱 in the style of a very old master", "en"),
        ("photo of 北京", "zh"),
        ("a photo of 北京", "en"),
        ("ネコの絵", "ja"),
        ("猫がソファーに座っている", "ja"),
        ("кошка на диване", "other"),
        ("قطة", "other"),
        ("", "en"),
        ("123 !?", "en"),
        ("😀😀", "en"),
        ("ａ ｃａｔ", "en"),
        ("naïve café", "en"),
    ],
)
def test_the_script_tells_the_language(text: str, language: str) -> None:
    assert language_of(text) == language
