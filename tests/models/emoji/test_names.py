import re
from collections import Counter

import pytest

from models.emoji.names import BUNDLED_GROUPS, GROUPS, EmojiName, emoji_names


def test_the_bundled_groups_have_829_names_that_begin_with_food(names: tuple[EmojiName, ...]) -> None:
    assert len(names) == 829
    assert {group: count for group, count in Counter(name.group for name in names).items()} == {
        "Food & Drink": 135,
        "Animals & Nature": 153,
        "Travel & Places": 194,
        "Objects": 262,
        "Activities": 85,
    }
    assert names[0] == EmojiName("1f347", "grapes", "葡萄", "Food & Drink")


def test_names_are_distinct_in_both_languages_and_free_of_markup(names: tuple[EmojiName, ...]) -> None:
    for labels in ([name.en.lower() for name in names], [name.zh.lower() for name in names]):
        assert len(set(labels)) == len(labels)
    assert len({name.code for name in names}) == len(names)
    for name in names:
        assert re.fullmatch(r"[A-Za-z0-9ñ' -]+", name.en), name
        assert re.fullmatch(r"[\u4e00-\u9fff]+|T恤|DNA|DVD|X射线", name.zh), name
        assert name.en == name.en.strip() and "  " not in name.en


def test_clock_faces_and_skin_tones_are_left_out(names: tuple[EmojiName, ...]) -> None:
    assert not any("o'clock" in name.en or "thirty" in name.en or "skin" in name.en for name in names)
    assert {"alarm clock", "mantelpiece clock", "watch"} <= {name.en for name in names}


def test_every_name_but_flags_and_clocks_is_there_on_demand(names: tuple[EmojiName, ...]) -> None:
    everything = emoji_names(tuple(GROUPS))
    assert everything[: len(names)] == names, "the bundled groups come first"
    assert len(everything) == 1605  # of 1,629 + 24 - 48: the clock faces and what is only a component are left out


def test_an_unknown_group_is_named() -> None:
    with pytest.raises(ValueError, match=r"unknown emoji groups \['Flags'\]; there are \['Food & Drink'"):
        emoji_names((*BUNDLED_GROUPS, "Flags"))


def test_groups_have_distinct_names() -> None:
    assert len({group.en for group in GROUPS.values()}) == len({group.zh for group in GROUPS.values()}) == len(GROUPS)
