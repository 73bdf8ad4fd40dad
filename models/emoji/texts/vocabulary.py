"""The vocabulary of a model that knows emoji: entries for whole names, for the words around them, for characters."""

import re
import string
from collections.abc import Iterable, Iterator, Sequence

from models.emoji.names import GROUPS, EmojiName
from models.emoji.scenes.grounds import COLOURS
from models.emoji.texts.captions import CAPTION_TEMPLATES
from models.emoji.texts.english import noun_phrase
from models.emoji.texts.templates import QUESTIONS, TRANSLATE

_SPECIAL = ("<pad>", "<unk>", "<mask>", "<sep>", "</n>", "</_>", "<s>", "</s>", "<root>", "<ans>", "<option>")
_LAST = "<eod>"
_KEYS = ("image", "context", "question", "caption", "objects", "User", "AI")  # of data trees, and of turns in them
_CHINESE_PUNCTUATION = "，。！？：；、（）《》“”‘’…—·"
_ANSWER_TEXTS = ("On the left", "On the right", "One", "Two", "Three", "Four", "a on a and the an on an", "An", "The")
_CHINESE_WORDS = tuple(
    """
    背景上的 以及 在左边 在右边 左边 右边 左侧 右侧 一个 两个 三个 四个 几个 多少个 什么 颜色 背景 图片 图里 图中 类别
    哪一类 哪个 哪里 哪边 属于 东西 这是 它是 这张 这个 请问 说出 描述 一下 看到 名字 在哪 还是 那是 怎么说
    英文 英语 中文 汉语 翻译成 说一遍 数一数 一共 的图片 画一个
    """.split()
)
_WORD = re.compile(r" ?[A-Za-zñ]+(?:'[a-z]+)?")


def vocabulary(names: Sequence[EmojiName]) -> list[str]:
    """Entries in the order of their ids, in the published file's form (newline `</n>`, space `</_>`)."""
    entries: dict[str, None] = dict.fromkeys(_SPECIAL)
    for group in (
        string.digits + string.ascii_letters + string.punctuation,
        _CHINESE_PUNCTUATION,
        _KEYS,
        _name_entries(names),
        _english_words(names),
        _CHINESE_WORDS,
        (colour.zh for colour in COLOURS),
        (group.zh for group in GROUPS.values()),
        _other_characters(names),
    ):
        entries.update(dict.fromkeys(group))
    entries.pop(_LAST, None)
    return [*entries, _LAST]


def spellings(name: EmojiName) -> tuple[str, str, str, str]:
    """The entries of one name: as it begins a text, small and capitalised, as it follows a space, and in Chinese."""
    return name.en, name.en[0].upper() + name.en[1:], f" {name.en}", name.zh


def _name_entries(names: Sequence[EmojiName]) -> Iterator[str]:
    for name in names:
        yield from spellings(name)


def _english_words(names: Sequence[EmojiName]) -> Iterator[str]:
    """The words of templates, answers and names, with the space before them where they have one."""
    for text in (*_templates(), *_ANSWER_TEXTS):
        for spelled in (text, text[0].lower() + text[1:], text[0].upper() + text[1:]):
            yield from _WORD.findall(re.sub(r"\{\w+\}", "", spelled))
    for group in GROUPS.values():
        yield from _WORD.findall(group.en[0].upper() + group.en[1:])
    for colour in COLOURS:
        yield from (f" {colour.en}", colour.en, colour.en.capitalize())
    for name in names:
        yield from _WORD.findall(noun_phrase(name))


def _other_characters(names: Iterable[EmojiName]) -> list[str]:
    """Characters of all texts that are no ASCII: Chinese ones, and letters such as ñ."""
    texts = [*_templates(), *_CHINESE_WORDS, *(name.en + name.zh for name in names)]
    texts += [group.zh for group in GROUPS.values()] + [colour.zh for colour in COLOURS]
    return sorted({character for text in texts for character in text if not character.isascii()})


def _templates() -> Iterator[str]:
    for templates in (*QUESTIONS.values(), TRANSLATE):
        for texts in templates.values():
            yield from texts
    yield from CAPTION_TEMPLATES
