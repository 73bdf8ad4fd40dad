"""Whether an answer says what was to be said.

Two measures: `exact` is the expected answer to the letter; `correct` is the same statement once what carries no meaning
is taken off both sides: width and case of letters, final punctuation, articles and measure words, and the few phrases
that lead in a short answer ("It is ...", "这是..."). What is left must be equal as a whole, so an answer that holds
the right word among others (a list of guesses, "green apple" for "apple", "not an apple") is wrong.
"""

import re
import unicodedata
from dataclasses import dataclass

from models.datasets.examples import Language

# Questions for a thing, which an answer may say more about: what it lies on.
NAME_KINDS = frozenset({"name", "side", "translate"})

_ENGLISH_LEAD = re.compile(
    r"(?:(?:it|this|that|there)(?:'s| is)|(?:they|these|those|there) are|i(?: can)? see|it belongs to"
    r"|the (?:picture|image) (?:shows|is of)|in the (?:picture|image)(?: there)? is"
    r"|the (?:background|colou?r|category)(?: of the background)? is) "
)
_ENGLISH_ARTICLE = re.compile(r"\b(?:an?|the|some) ")
_ENGLISH_GROUND = re.compile(r" on [a-z]+ background$")
_ENGLISH_SIDE = re.compile(r"(?:on |at )?(left|right)(?: side)?")
_CHINESE_LEAD = re.compile(
    r"(?:[这那它]们?(?:叫做?|是|属于)|(?:图片?|画面?)[里中上](?:画的)?[是有]|画的是|我?看[到见]了?|背景(?:颜色)?是|一共有)"
)
_CHINESE_MEASURE = re.compile(r"一[个只条头匹辆架把朵棵座艘件台部位名颗根支](?=.)")
_CHINESE_GROUND = re.compile(r"^[^的]{1,4}背景上?的")
_CHINESE_SIDE = re.compile(r"在?(左|右)[边侧面]")
_FINAL_PUNCTUATION = ".!?。…~"
_NUMBERS = {
    **dict(zip(("one", "two", "three", "four", "five", "six"), "123456", strict=True)),
    **dict(zip("一二三四五六", "123456", strict=True)),
    "两": "2",
}


@dataclass(frozen=True)
class Verdict:
    exact: bool
    correct: bool


def judge(answer: str, expected: str, kind: str, language: Language) -> Verdict:
    """Holds one answer against the expected one."""
    said, wanted = statement(answer, language), statement(expected, language)
    if kind in NAME_KINDS and not ground(wanted, language):
        said = said.removeprefix(ground(said, language)).removesuffix(ground(said, language))
    return Verdict(exact=answer == expected, correct=said == wanted != "")


def statement(text: str, language: Language) -> str:
    """What a short text says, without what carries no meaning."""
    text = normalise(text)
    if language == "zh":
        text = re.sub(r"\s+", "", text)
        text = _without_lead(text, _CHINESE_LEAD)
        text = _without_lead(text, _CHINESE_MEASURE).removesuffix("的")
        text = text.removesuffix("个") if text.removesuffix("个") in _NUMBERS else text
        side = _CHINESE_SIDE.fullmatch(text)
    else:
        text = _ENGLISH_ARTICLE.sub("", _without_lead(text, _ENGLISH_LEAD))
        side = _ENGLISH_SIDE.fullmatch(text)
    return side[1] if side else _NUMBERS.get(text, text)


def normalise(text: str) -> str:
    """Width, case, apostrophes, spaces and final punctuation made one."""
    text = unicodedata.normalize("NFKC", text).casefold().replace("’", "'")
    return " ".join(text.split()).rstrip(_FINAL_PUNCTUATION + " ")


def ground(said: str, language: Language) -> str:
    """The part of a statement that tells the background, "" if there is none."""
    found = (_CHINESE_GROUND if language == "zh" else _ENGLISH_GROUND).search(said)
    return found[0] if found else ""


def _without_lead(text: str, lead: re.Pattern[str]) -> str:
    found = lead.match(text)
    return text[found.end() :] if found else text
