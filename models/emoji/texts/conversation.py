"""Conversations about a scene: what is asked, and the one answer that a fact has in each language.

Kinds of rounds: `name`, `scene` (name and ground), `category`, `colour`, `side`, `where`, `count`; and, needing an
earlier turn, `translate`, `follow_category`, `follow_colour`, `follow_side`. A round's language is its answer's.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np

from models.datasets.examples import Round
from models.emoji.names import GROUPS, EmojiName
from models.emoji.scenes.scene import Layout, Scene
from models.emoji.texts.english import article, definite_phrase, noun_phrase, sentence
from models.emoji.texts.templates import QUESTIONS, TRANSLATE

Tongue = Literal["en", "zh"]
Answer = Callable[[Tongue], str]

Questions = Mapping[Layout, tuple[tuple[str, float], ...]]  # and how often

# What a conversation about a layout may begin with; where a thing is takes most practice: two names are compared.
QUESTIONS_OF_ALL_KINDS: Questions = {
    "single": (("name", 0.5), ("scene", 0.18), ("category", 0.24), ("colour", 0.05), ("count", 0.03)),
    "pair": (("left", 0.2), ("right", 0.2), ("where", 0.48), ("scene", 0.08), ("count", 0.02), ("colour", 0.02)),
    "count": (("count", 0.5), ("name", 0.3), ("category", 0.15), ("colour", 0.05)),
}
QUESTIONS_ABOUT_NAMES: Questions = {
    "single": (("name", 0.6), ("scene", 0.4)),
    "pair": (("left", 0.3), ("right", 0.3), ("scene", 0.4)),
    "count": (("name", 1.0),),
}
_THIRD_ROUND_SHARE = 0.4
# Of the later rounds; a translation is soon learnt, the other follow-ups need most of the practice.
_TRANSLATE_SHARE = 0.25
_CASUAL_SHARE = 0.25
_NUMBERS = (("one", "一"), ("two", "两"), ("three", "三"), ("four", "四"))


def draw_rounds(
    rng: np.random.Generator, scene: Scene, questions: Questions = QUESTIONS_OF_ALL_KINDS
) -> tuple[Round, ...]:
    """Two or three rounds about a scene, of which one of `questions` is the first; the later ones need the earlier."""
    facts = _Facts(scene)
    language: Tongue = "en" if rng.random() < 0.5 else "zh"
    question, subject = _first(rng, scene, questions)
    answer = facts.answer(question, subject)
    rounds = [facts.round(rng, question, language, subject, answer)]
    unused = _follow_ups(question, scene)
    for _ in range(1 + int(rng.random() < _THIRD_ROUND_SHARE)):
        if rng.random() < _TRANSLATE_SHARE or not unused:
            language = "zh" if language == "en" else "en"
            request = _casual(rng, _choice(rng, TRANSLATE[language]))
            rounds.append(Round(request, answer(language), "translate", language))
            continue
        question = unused.pop(int(rng.integers(len(unused))))
        if question in ("follow_left", "follow_right"):
            subject = scene.objects[0 if question == "follow_left" else 1].name
            # The next question may ask for the thing just named again.
            unused = ["follow_category"]
        answer = facts.answer(question, subject)
        rounds.append(facts.round(rng, question, language, subject, answer))
    return tuple(rounds)


def name_answer(name: EmojiName, language: Tongue) -> str:
    """`A red apple.`, `红苹果。`"""
    return sentence(noun_phrase(name)) if language == "en" else f"{name.zh}。"


def category_answer(name: EmojiName, language: Tongue) -> str:
    """`Food and drink.`, `食物和饮料。`"""
    group = GROUPS[name.group]
    return sentence(group.en) if language == "en" else f"{group.zh}。"


class _Facts:
    """The answers that a scene gives."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene

    def answer(self, question: str, subject: EmojiName) -> Answer:
        """The answer to a question in either language; `subject` is what it is about, where that matters."""
        if question in ("name", "left", "right", "follow_left", "follow_right"):
            return lambda language: name_answer(subject, language)
        if question in ("category", "follow_category"):
            return lambda language: category_answer(subject, language)
        if question in ("colour", "follow_colour"):
            return self._colour
        if question == "where":
            return lambda language: self._where(subject, language)
        if question == "count":
            return self._count
        assert question == "scene", question
        return self._scene

    def round(
        self, rng: np.random.Generator, question: str, language: Tongue, subject: EmojiName, answer: Answer
    ) -> Round:
        template = _choice(rng, QUESTIONS[question][language])
        text = template.format(is_the=definite_phrase(subject), zh=subject.zh) if question == "where" else template
        return Round(_casual(rng, text), answer(language), _KIND_OF_QUESTION.get(question, question), language)

    def _colour(self, language: Tongue) -> str:
        colour = self.scene.ground.colour
        return sentence(colour.en) if language == "en" else f"{colour.zh}。"

    def _where(self, subject: EmojiName, language: Tongue) -> str:
        is_left = self.scene.objects[0].name == subject
        if language == "en":
            return f"On the {'left' if is_left else 'right'}."
        return f"在{'左' if is_left else '右'}边。"

    def _count(self, language: Tongue) -> str:
        english, chinese = _NUMBERS[len(self.scene.objects) - 1]
        return sentence(english) if language == "en" else f"{chinese}个。"

    def _scene(self, language: Tongue) -> str:
        colour, names = self.scene.ground.colour, [placed.name for placed in self.scene.objects]
        if language == "en":
            things = " and ".join(noun_phrase(name) for name in names)
            return sentence(f"{things} on {article(colour.en)} {colour.en} background")
        # 和 is also the first half of 和服, kimono.
        return f"{colour.zh}背景上的{'以及'.join(name.zh for name in names)}。"


_KIND_OF_QUESTION = {"left": "side", "right": "side", "follow_left": "follow_side", "follow_right": "follow_side"}


def _first(rng: np.random.Generator, scene: Scene, questions: Questions) -> tuple[str, EmojiName]:
    """The first question, and the emoji that it is about."""
    kinds, shares = zip(*questions[scene.layout], strict=True)
    question = kinds[int(np.searchsorted(np.cumsum(shares), rng.random() * sum(shares), side="right"))]
    if question == "right" or (question == "where" and rng.random() < 0.5):
        return question, scene.objects[1].name
    return question, scene.objects[0].name


def _follow_ups(question: str, scene: Scene) -> list[str]:
    """What may be asked next, besides a translation; a question listed thrice is asked thrice as often."""
    if scene.layout == "pair":
        return {
            "left": ["follow_right"] * 3 + ["follow_category", "follow_colour"],
            "right": ["follow_left"] * 3 + ["follow_category", "follow_colour"],
            "where": ["follow_category", "follow_colour"],
            "count": ["follow_colour"],
        }.get(question, [])
    return {
        "name": ["follow_category", "follow_colour"],
        "scene": ["follow_category"],
        "category": ["follow_colour"],
        "count": ["follow_category", "follow_colour"],
    }.get(question, [])


def _casual(rng: np.random.Generator, text: str) -> str:
    """A question as people type it in haste, now and then: small first letter, no mark at its end."""
    if rng.random() >= _CASUAL_SHARE:
        return text
    at = rng.random()
    if at < 0.67:
        text = text[:-1] if text[-1] in "?？.。" else text
    return text if at < 0.33 else text[0].lower() + text[1:]


def _choice(rng: np.random.Generator, items: Sequence[str]) -> str:
    return items[int(rng.integers(len(items)))]
