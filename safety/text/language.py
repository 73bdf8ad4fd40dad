"""The language of a text, by its script.

Covered: English, Chinese, and Japanese told from Chinese by its kana. Mixed text is Chinese when it has at least as
many Han characters as Latin words.
Not covered: languages that share a script (French reads as English), romanised Chinese (reads as English), and
Japanese without kana (reads as Chinese).
"""

import re
from typing import Literal

Language = Literal["en", "zh", "ja", "other"]

HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_KANA = re.compile("[\u3041-\u30ff\uff66-\uff9d]")
_HAN = re.compile(f"[{HAN}]")
_LATIN_WORD = re.compile("[A-Za-z\u00c0-\u024f\uff21-\uff3a\uff41-\uff5a]+")
_LETTER = re.compile(r"[^\W\d_]")


def language_of(text: str) -> Language:
    """The language that screens, rerankers, refusals and labels are chosen by. Text without letters is English."""
    if text.isascii():
        return "en"
    if _KANA.search(text):
        return "ja"
    num_han = len(_HAN.findall(text))
    num_latin = len(_LATIN_WORD.findall(text))
    if num_han and num_han >= num_latin:
        return "zh"
    return "en" if num_latin or not _LETTER.search(text) else "other"
