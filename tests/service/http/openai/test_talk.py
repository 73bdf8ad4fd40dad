"""Talks as clients keep them, read as questions with earlier turns."""

from collections.abc import Sequence

import pytest

from service.core.errors import InvalidRequest
from service.core.settings import Settings
from service.http.openai.talk import Talk, read_talk
from service.http.schemas.openai.messages import Message, Role

SETTINGS = Settings(max_question_chars=40, conversation_max_turns=3)
ROLES: dict[str, Role] = {"s": "system", "u": "user", "a": "assistant"}


def read(*said: str, settings: Settings = SETTINGS) -> Talk:
    """`s:`, `u:` or `a:` and a text each."""
    return read_talk([Message(ROLES[one[0]], one[2:], f"messages.{i}") for i, one in enumerate(said)], settings)


def shown(messages: Sequence[tuple[str, list[str]]], settings: Settings = SETTINGS) -> Talk:
    """User messages with their pictures, an answer after each but the last."""
    talk = []
    for index, (text, pictures) in enumerate(messages):
        named = [(source, f"messages.{index}.content.{i}.image_url") for i, source in enumerate(pictures)]
        talk += [Message("user", text, f"messages.{index}", named), Message("assistant", "so", "messages.x")]
    return read_talk(talk[:-1], settings)


def turns(talk: Talk) -> list[tuple[str, str]]:
    return [(turn.question, turn.answer) for turn in talk.turns]


def test_the_last_question_is_asked_and_the_rest_was_said_before() -> None:
    talk = read("u:one", "a:1 < 2", "u:two")
    assert talk.question == "two" and turns(talk) == [("one", "1 << 2")]


def test_system_messages_stand_before_the_first_question() -> None:
    assert read("s:be kind", "s:be short", "u:one").question == "be kind\nbe short\none"
    talk = read("u:one", "a:1", "s:be kind", "u:two")
    assert talk.question == "two" and turns(talk) == [("be kind\none", "1")]
    assert turns(read("s:be kind", "a:hello", "u:one")) == [("be kind\n", "hello")]


def test_messages_of_one_side_are_joined_and_empty_ones_say_nothing() -> None:
    talk = read("u:one", "u:more", "a:1", "a:2", "a:", "u:", "u:two")
    assert talk.question == "two" and turns(talk) == [("one\nmore", "1\n2")]
    assert read("u:one", "a:").question == "one"


def test_a_talk_may_begin_with_an_answer() -> None:
    talk = read("a:hello", "u:one")
    assert talk.question == "one" and turns(talk) == [("", "hello")]


@pytest.mark.parametrize(
    ("said", "param", "message"),
    [
        (["s:be kind"], "messages", "must end with a user's question, and has none"),
        (["u:one", "a:1"], "messages.1", "ends with an answer, which this model does not go on writing"),
        (["u:one", "a:1", "u: \n"], "messages.2", "nothing but blanks"),
        (["s:be kind", "u:"], "messages.1", "nothing but blanks"),
        (["u:" + "x" * 41], "messages.0", "has 41 characters, at most 40"),
        (["s:" + "x" * 38, "u:one"], "messages.1", "has 42 characters, at most 40"),
        (["u:a\0b", "a:1", "u:two"], "messages.0", "contains a NUL"),
        (["u:one", "a:\ud800", "u:two"], "messages.1", "half of no character"),
    ],
)
def test_what_is_no_question_is_told_where(said: list[str], param: str, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message) as refused:
        read(*said)
    assert refused.value.param == param


def test_no_more_is_kept_than_a_conversation_may_have() -> None:
    talk = read("s:be kind", "u:one", "a:1", "u:two", "a:2", "u:three", "a:3", "u:four")
    assert turns(talk) == [("be kind\ntwo", "2"), ("three", "3")] and talk.gone_turns == 1
    for length, num_kept in ((73, 2), (74, 1)):  # of twice the longest question
        long = read("u:one", "a:" + "1" * length, "u:two", "a:2", "u:three")
        assert len(long.turns) == num_kept and long.gone_turns == 2 - num_kept
    alone = SETTINGS.model_copy(update={"conversation_max_turns": 1})
    assert read("u:one", "a:1", "u:two", settings=alone).turns == []


def test_the_latest_picture_counts_wherever_it_stands() -> None:
    talk = shown([("one", ["A", "B"]), ("two", []), ("three", [])])
    assert (talk.picture, talk.picture_param, talk.pictures_ignored) == ("B", "messages.0.content.1.image_url", 1)
    assert shown([("one", ["A"]), ("two", ["A"])]).pictures_ignored == 0
    assert shown([("one", [])]).picture is None
    assert shown([("", ["A"]), ("two", [])]).turns[0].question == ""


def test_other_pictures_are_refused_where_that_is_wanted() -> None:
    strict = SETTINGS.model_copy(update={"strict_pictures": True})
    assert shown([("one", ["A"]), ("two", ["A"])], strict).picture == "A"
    with pytest.raises(InvalidRequest, match=r"the talk has 3 pictures, one is allowed") as refused:
        shown([("one", ["A"]), ("two", ["B", "C"])], strict)
    assert refused.value.param == "messages.1.content.1.image_url"
