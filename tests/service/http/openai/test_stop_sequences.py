"""Where answers are cut, in whatever pieces they come."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.http.openai.stop_sequences import StopSequences, cut


@pytest.mark.parametrize(
    ("text", "stops", "kept", "is_cut"),
    [
        ("one two", [], "one two", False),
        ("one two", ["two", "one t"], "", True),
        ("abcdx", ["abcde", "cd"], "ab", True),
        ("abab", ["abx"], "abab", False),
        ("你好。再见", ["。"], "你好", True),
    ],
)
def test_an_answer_is_cut_before_the_stop_that_is_complete_first(
    text: str, stops: list[str], kept: str, is_cut: bool
) -> None:
    assert cut(text, stops) == (kept, is_cut)


def test_what_may_begin_a_stop_is_held_back_and_no_more() -> None:
    stopping = StopSequences(["</s>", "User:"])
    assert [stopping.feed(piece) for piece in ("a <", "/s", "> b Us", "e", "d User", ": c", "d")] == [
        "a ",
        "",
        "",
        "",
        "",
        "",
        "",
    ]
    other = StopSequences(["User:"])
    assert [other.feed(piece) for piece in ("a Us", "e", "d User")] == ["a ", "", "Used "]
    assert other.finish() == "User" and not other.is_cut


@pytest.mark.slow
@given(st.lists(st.text("ab", max_size=4), max_size=8), st.lists(st.text("ab", min_size=1, max_size=4), max_size=4))
def test_pieces_make_no_difference(pieces: list[str], stops: list[str]) -> None:
    stopping, sent = StopSequences(stops), ""
    whole = "".join(pieces)
    for piece in pieces:
        sent += stopping.feed(piece)
        assert whole.startswith(sent)
    sent += stopping.finish()
    assert (sent, stopping.is_cut) == cut(whole, stops)
    assert stopping.is_cut == any(stop in whole for stop in stops)
    assert not any(stop in sent for stop in stops)
