from collections import Counter, defaultdict

import numpy as np
import pytest

from models.datasets.examples import Round
from models.emoji.names import GROUPS, EmojiName
from models.emoji.scenes.composition import draw_scene
from models.emoji.scenes.renderer import Renderer
from models.emoji.scenes.scene import Scene
from models.emoji.texts.conversation import category_answer, draw_rounds, name_answer
from models.emoji.texts.english import noun_phrase, sentence

ENGLISH_NUMBERS = {"One.": 1, "Two.": 2, "Three.": 3, "Four.": 4}
CHINESE_NUMBERS = {"一个。": 1, "两个。": 2, "三个。": 3, "四个。": 4}


@pytest.fixture(scope="module")
def conversations(renderer: Renderer, names: tuple[EmojiName, ...]) -> list[tuple[Scene, tuple[Round, ...]]]:
    rng = np.random.default_rng(2)
    layouts = ("single", "pair", "count")
    scenes = [draw_scene(rng, renderer, names, names[i % len(names)], layouts[i % 3]) for i in range(2700)]
    return [(scene, draw_rounds(rng, scene)) for scene in scenes]


def is_answer_right(scene: Scene, asked: Round, about: EmojiName | None) -> bool:
    """Whether the scene says so; `about` is what an earlier turn named, where that matters."""
    english = asked.language == "en"
    colour, objects = scene.ground.colour, [placed.name for placed in scene.objects]
    if asked.kind in ("name", "side", "follow_side"):
        return asked.answer in {name_answer(name, asked.language) for name in objects}  # type: ignore[arg-type]
    if asked.kind == "scene":
        return colour.en in asked.answer if english else asked.answer.startswith(f"{colour.zh}背景上的")
    if asked.kind in ("colour", "follow_colour"):
        return asked.answer == (sentence(colour.en) if english else f"{colour.zh}。")
    if asked.kind in ("category", "follow_category"):
        group = GROUPS[(about or objects[0]).group]
        return asked.answer == (sentence(group.en) if english else f"{group.zh}。")
    if asked.kind == "count":
        return (ENGLISH_NUMBERS if english else CHINESE_NUMBERS)[asked.answer] == len(objects)
    assert asked.kind == "where", asked
    on_left = objects[0].en in asked.question or objects[0].zh in asked.question
    return asked.answer == (f"On the {'left' if on_left else 'right'}." if english else f"在{'左右'[not on_left]}边。")


@pytest.mark.slow
def test_answers_say_what_the_scene_holds(conversations: list[tuple[Scene, tuple[Round, ...]]]) -> None:
    kinds: Counter[str] = Counter()
    for scene, rounds in conversations:
        assert len(rounds) in (2, 3)
        named = {name_answer(p.name, language): p.name for p in scene.objects for language in ("en", "zh")}  # type: ignore[arg-type]
        about: EmojiName | None = None
        for asked in rounds:
            kinds[asked.kind] += 1
            if asked.kind == "where":
                about = next(
                    p.name for p in scene.objects if p.name.zh in asked.question or p.name.en in asked.question
                )
            about = named.get(asked.answer, about)
            if asked.kind != "translate":
                assert is_answer_right(scene, asked, about), (scene, rounds)
    assert set(kinds) == {
        *("name", "scene", "category", "colour", "side", "where", "count"),
        *("translate", "follow_category", "follow_colour", "follow_side"),
    }
    assert min(kinds.values()) > 40, kinds


@pytest.mark.slow
def test_left_and_right_are_where_they_are_drawn(conversations: list[tuple[Scene, tuple[Round, ...]]]) -> None:
    seen = 0
    for scene, rounds in conversations:
        for asked in rounds:
            if asked.kind in ("side", "follow_side"):
                is_left = "left" in asked.question or "左" in asked.question
                assert is_left != ("right" in asked.question or "右" in asked.question), asked
                expected = scene.objects[0 if is_left else 1].name
                assert asked.answer == name_answer(expected, asked.language)  # type: ignore[arg-type]
                seen += 1
    assert seen > 300


def test_a_translation_is_the_answer_before_in_the_other_language(
    conversations: list[tuple[Scene, tuple[Round, ...]]], by_english: dict[str, EmojiName]
) -> None:
    pairs: dict[str, set[str]] = defaultdict(set)
    for _, rounds in conversations:
        for before, asked in zip(rounds, rounds[1:], strict=False):
            if asked.kind == "translate":
                assert {before.language, asked.language} == {"en", "zh"}
                both = (before, asked) if before.language == "en" else (asked, before)
                pairs[both[0].answer].add(both[1].answer)
    assert len(pairs) > 300
    assert all(len(chinese) == 1 for chinese in pairs.values()), "one fact has one answer in each language"
    assert pairs["Blue."] == {"蓝色。"}
    apple = by_english["red apple"]
    assert (name_answer(apple, "en"), name_answer(apple, "zh")) == ("A red apple.", "红苹果。")
    assert (category_answer(apple, "en"), category_answer(apple, "zh")) == ("Food and drink.", "食物和饮料。")


def test_a_follow_up_never_comes_first(conversations: list[tuple[Scene, tuple[Round, ...]]]) -> None:
    for _, rounds in conversations:
        assert not rounds[0].kind.startswith(("follow", "translate"))


def test_no_question_comes_twice_in_a_conversation(conversations: list[tuple[Scene, tuple[Round, ...]]]) -> None:
    for _, rounds in conversations:
        kinds = [asked.kind for asked in rounds if asked.kind != "translate"]
        assert len(set(kinds)) == len(kinds), rounds


def test_a_description_names_things_and_ground(conversations: list[tuple[Scene, tuple[Round, ...]]]) -> None:
    described = [(scene, rounds[0]) for scene, rounds in conversations if rounds[0].kind == "scene"]
    assert len(described) > 100
    for scene, asked in described:
        things = [placed.name for placed in scene.objects]
        for name in things:
            words = noun_phrase(name) if asked.language == "en" else name.zh
            assert words in asked.answer or words[0].upper() + words[1:] in asked.answer
