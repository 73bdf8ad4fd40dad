from collections import Counter

import numpy as np
import pytest

from models.datasets.examples import ConversationSource, PictureSource
from models.emoji.drawings import Style
from models.emoji.names import EmojiName
from models.emoji.sources import EVALUATION_SEED, TRAINING_SEED, Curriculum, EmojiConversations, EmojiPictures, Lessons
from models.emoji.texts.conversation import name_answer

SIDE_PX = 48


def make_conversations(
    names: tuple[EmojiName, ...], styles: tuple[Style, ...], seed: int = 1, lessons: Lessons | None = None
) -> EmojiConversations:
    return EmojiConversations(names, styles, SIDE_PX, seed, 2 * len(names), lessons)


def test_an_example_is_a_function_of_seed_epoch_and_index(
    names: tuple[EmojiName, ...], styles: tuple[Style, ...]
) -> None:
    one, again = make_conversations(names, styles), make_conversations(names, styles)
    for index in (0, 5, 700):
        for epoch in (0, 3):
            expected, got = one.conversation(index, epoch), again.conversation(index, epoch)
            assert expected.rounds == got.rounds
            assert expected.pixels is not None and got.pixels is not None
            np.testing.assert_array_equal(expected.pixels, got.pixels)
    assert one.scene_and_rounds(4, 0) != one.scene_and_rounds(4, 1)
    assert one.scene_and_rounds(4, 0) != make_conversations(names, styles, seed=2).scene_and_rounds(4, 0)


def test_pictures_are_functions_of_seed_epoch_and_index(names: tuple[EmojiName, ...]) -> None:
    one, again = (EmojiPictures(names, ("twemoji",), SIDE_PX, 1, 900) for _ in range(2))
    for index in (0, 5, 700):
        expected, got = one.picture(index, 2), again.picture(index, 2)
        assert expected.caption == got.caption
        np.testing.assert_array_equal(expected.pixels, got.pixels)


@pytest.mark.slow
def test_compositions_that_are_judged_were_not_learnt(names: tuple[EmojiName, ...]) -> None:
    learnt, judged = (make_conversations(names, ("twemoji",), seed) for seed in (TRAINING_SEED, EVALUATION_SEED))
    seen = {learnt.scene_and_rounds(index, epoch)[0] for index in range(150) for epoch in range(2)}
    assert len(seen) == 300
    assert not any(judged.scene_and_rounds(index, 0)[0] in seen for index in range(150))


@pytest.mark.slow
def test_every_name_leads_equally_often_across_epochs(names: tuple[EmojiName, ...]) -> None:
    few = names[:50]
    source = EmojiConversations(few, ("twemoji",), SIDE_PX, 1, 75)
    leading: Counter[str] = Counter()
    for epoch in range(2):
        for index in range(len(source)):
            scene, _ = source.scene_and_rounds(index, epoch)
            if scene.layout != "pair":
                leading[scene.objects[0].name.en] += 1
    assert max(leading.values()) <= 3 and len(leading) > 40

    pictures = EmojiPictures(few, ("twemoji",), SIDE_PX, 1, 50)
    orders = [[pictures.picture(index, epoch).pixels.tobytes() for index in range(50)] for epoch in range(2)]
    assert orders[0] != orders[1]


@pytest.mark.slow
def test_all_layouts_occur(names: tuple[EmojiName, ...], styles: tuple[Style, ...]) -> None:
    source = make_conversations(names, styles)
    drawn = [source.scene_and_rounds(index, 0)[0] for index in range(400)]
    shares = {layout: count / 400 for layout, count in Counter(scene.layout for scene in drawn).items()}
    assert shares["single"] == pytest.approx(0.6, abs=0.07)
    assert shares["pair"] == pytest.approx(0.28, abs=0.07)
    assert {placed.style for scene in drawn for placed in scene.objects} == set(styles)


@pytest.mark.slow
def test_conversations_are_brief_at_first(names: tuple[EmojiName, ...]) -> None:
    source = make_conversations(names, ("twemoji",), lessons=Lessons(brief_epochs=4))

    def brief_share(epoch: int) -> float:
        drawn = [source.scene_and_rounds(index, epoch)[1] for index in range(300)]
        return sum(len(rounds) == 1 for rounds in drawn) / len(drawn)

    shares = [brief_share(epoch) for epoch in (0, 4, 6, 8, 20)]
    assert shares == [1, 1, pytest.approx(0.5, abs=0.1), 0, 0]
    whole = make_conversations(names, ("twemoji",))
    for index in range(20):
        scene, rounds = whole.scene_and_rounds(index, 0)
        assert source.scene_and_rounds(index, 0) == (scene, rounds[:1])


@pytest.mark.slow
def test_conversations_ask_for_names_at_first(names: tuple[EmojiName, ...]) -> None:
    source = make_conversations(
        names, ("twemoji",), lessons=Lessons(singles_epochs=2, names_epochs=6, brief_epochs=100)
    )

    def kinds(epoch: int) -> Counter[tuple[str, str]]:
        drawn = [source.scene_and_rounds(index, epoch) for index in range(300)]
        assert all(len(rounds) == 1 for _, rounds in drawn)
        return Counter((scene.layout, rounds[0].kind) for scene, rounds in drawn)

    def share(epoch: int, *wanted: tuple[str, str]) -> float:
        return sum(count for kind, count in kinds(epoch).items() if kind in wanted) / 300

    single = ("single", "name")
    assert share(0, single) == share(2, single) == 1
    assert share(3, single) == pytest.approx(0.5 + 0.5 * 0.3 * 0.6, abs=0.08)
    about_names = (single, ("single", "scene"), ("pair", "side"), ("pair", "scene"), ("count", "name"))
    assert share(6, *about_names) == 1
    assert share(6, ("pair", "side")) == pytest.approx(0.5 * 0.6, abs=0.08)
    assert share(12, *about_names) == pytest.approx(0.6 * 0.68 + 0.28 * 0.48 + 0.12 * 0.3, abs=0.08)
    scene, rounds = source.scene_and_rounds(7, 0)
    answers = {name_answer(scene.objects[0].name, language) for language in ("en", "zh")}
    assert rounds[0].answer in answers


@pytest.mark.slow
def test_where_things_are_is_asked_of_few_names_at_first(names: tuple[EmojiName, ...]) -> None:
    source = make_conversations(names[:64], ("twemoji",), lessons=Lessons(where_epochs=5))

    def drawn(epoch: int) -> list[tuple[str, int]]:
        examples = [source.scene_and_rounds(index, epoch) for index in range(len(source))]
        seen = {placed.name for scene, _ in examples for placed in scene.objects}
        return [(rounds[0].kind, len(seen)) for _, rounds in examples]

    assert set(drawn(0)) == {("where", 8)}
    assert set(drawn(2)) == {("where", int(8 * 2**1.5))}
    assert set(drawn(4)) == set(drawn(5)) == {("where", 64)}
    assert {kind for kind, _ in drawn(10)} > {"name", "side", "where"}


@pytest.mark.slow
def test_a_curriculum_of_pictures_begins_with_names_alone(names: tuple[EmojiName, ...]) -> None:
    curriculum = Curriculum(doubling_epochs=1, mixing_epochs=2, first_names=4)
    source = EmojiPictures(names[:16], ("twemoji",), SIDE_PX, 1, 200, curriculum)

    def seen(epoch: int) -> set[bytes]:
        return {source.picture(index, epoch).pixels.tobytes() for index in range(len(source))}

    assert [len(seen(epoch)) for epoch in range(3)] == [4, 8, 16], "one picture of each name"
    assert seen(0) < seen(1) < seen(2)
    assert len(seen(4)) > 30, "colours and places by now"


def test_sources_keep_to_the_contract(names: tuple[EmojiName, ...]) -> None:
    source: ConversationSource = make_conversations(names, ("twemoji",))
    pictures: PictureSource = EmojiPictures(names, ("twemoji",), SIDE_PX, 1, 10)
    assert (len(source), len(pictures)) == (2 * len(names), 10)
    for pixels in (source.conversation(3, 0).pixels, pictures.picture(3, 0).pixels):
        assert pixels is not None
        assert pixels.shape == (SIDE_PX, SIDE_PX, 3) and pixels.dtype == np.uint8 and pixels.flags.writeable


def test_arguments_that_make_no_examples_are_refused(names: tuple[EmojiName, ...]) -> None:
    with pytest.raises(ValueError, match="conversations need two names and one style, got 1 names and 1 styles"):
        EmojiConversations(names[:1], ("twemoji",), SIDE_PX, 1, 10)
    with pytest.raises(ValueError, match=r"a lesson takes 0 epochs or more, got Lessons\(singles_epochs=0.0, names_"):
        Lessons(brief_epochs=-1)
    with pytest.raises(ValueError, match="a curriculum needs epochs, two names and a share of 0 to 1, got"):
        Curriculum(doubling_epochs=0, mixing_epochs=1)
    with pytest.raises(ValueError, match="pictures need a name and a style, got 3 names and 0 styles"):
        EmojiPictures(names[:3], (), SIDE_PX, 1, 10)
