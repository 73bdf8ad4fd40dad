"""The questions of the emoji evaluation: compositions that no training has seen, and the answers that they have.

Two parts for each style of drawing. The first goes through all names: each is asked for in each language, and then in
the other one. The second is conversations as the training's are, of all kinds.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from models.checkpoints.loading import LoadedChat
from models.datasets.examples import PixelArray, Round
from models.emoji.drawings import Style
from models.emoji.names import EmojiName
from models.emoji.scenes.composition import draw_scene
from models.emoji.scenes.renderer import Renderer
from models.emoji.scenes.scene import Scene
from models.emoji.sources import EmojiConversations
from models.emoji.texts.conversation import name_answer
from models.emoji.texts.templates import QUESTIONS, TRANSLATE
from models.evaluation.asking import BATCH_SIZE, PictureQuestions, ask
from models.evaluation.emoji.answers import Verdict, judge
from models.jobs import ChatGeneration

Tongue = Literal["en", "zh"]
TONGUES: tuple[Tongue, ...] = get_args(Tongue)

_NAMED_PART = 2  # keeps these compositions apart from those of other sources of one seed


@dataclass(frozen=True)
class Item:
    """One picture and the conversation about it."""

    style: Style
    scene: Scene
    rounds: tuple[Round, ...]
    name: EmojiName | None = None  # what the conversation is for, in the part that goes through all names


@dataclass(frozen=True)
class Answered:
    """One question of an item, what the model said, and whether that was right."""

    item: int  # place of the item in the benchmark
    style: Style
    round: Round
    answer: str
    verdict: Verdict
    name: EmojiName | None


def drawn_names(renderer: Renderer, names: Iterable[EmojiName]) -> list[EmojiName]:
    """The names that the renderer's styles have drawings of."""
    return [name for name in names if any(drawings.draws(name.code) for drawings in renderer.drawings.values())]


def named_items(renderer: Renderer, names: Sequence[EmojiName], style: Style, seed: int, per_name: int) -> list[Item]:
    """`per_name` conversations about each name in each language: what is it, and what in the other language?"""
    items = []
    for place, name in enumerate(names):
        for number in range(per_name * len(TONGUES)):
            rng = np.random.default_rng((seed, _NAMED_PART, place, number))
            language = TONGUES[number % 2]
            other = TONGUES[1 - number % 2]
            rounds = (
                Round(_pick(rng, QUESTIONS["name"][language]), name_answer(name, language), "name", language),
                Round(_pick(rng, TRANSLATE[other]), name_answer(name, other), "translate", other),
            )
            items.append(Item(style, draw_scene(rng, renderer, names, name, "single"), rounds, name))
    return items


def mixed_items(names: Sequence[EmojiName], style: Style, seed: int, count: int) -> list[Item]:
    """`count` conversations of all kinds."""
    # Scenes alone are taken from it, so their pictures have no side.
    conversations = EmojiConversations(names, [style], side_px=0, seed=seed, num_examples=count)
    return [Item(style, *conversations.scene_and_rounds(index, 0)) for index in range(count)]


def run_benchmark(
    chat: LoadedChat,
    renderer: Renderer,
    items: Sequence[Item],
    generation: ChatGeneration,
    on_progress: Callable[[int], object],
    first_item: int = 0,
) -> list[Answered]:
    """Asks all questions, drawing pictures as they come up; items are counted from `first_item`; else as `ask`."""
    answered = []
    side_px = chat.config.image_size_px
    for start in range(0, len(items), BATCH_SIZE):
        batch = items[start : start + BATCH_SIZE]
        conversations = [
            PictureQuestions(renderer.render(item.scene, side_px), tuple(one.question for one in item.rounds))
            for item in batch
        ]
        for place, (item, answers) in enumerate(zip(batch, ask(chat, conversations, generation), strict=True), start):
            for one, answer in zip(item.rounds, answers, strict=True):
                verdict = judge(answer, one.answer, one.kind, one.language)
                answered.append(Answered(first_item + place, item.style, one, answer, verdict, item.name))
        on_progress(len(batch))
    return answered


def pictures_of_names(
    renderer: Renderer, names: Sequence[EmojiName], seed: int, side_px: int
) -> tuple[list[PixelArray], list[str]]:
    """One unseen picture of each name, and its code: what a classifier of names is held against."""
    items = [
        draw_scene(np.random.default_rng((seed, _NAMED_PART, place, 0)), renderer, names, name, "single")
        for place, name in enumerate(names)
    ]
    return [renderer.render(scene, side_px) for scene in items], [name.code for name in names]


def _pick(rng: np.random.Generator, templates: Sequence[str]) -> str:
    return templates[int(rng.integers(len(templates)))]
