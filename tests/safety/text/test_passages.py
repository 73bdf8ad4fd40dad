"""Long texts in passages: nothing is lost, and what stands together is read together."""

import random

import pytest

from safety.text.passages import PIECE_CHARS, SENTENCE_END, mark_sentences, passages


@pytest.mark.parametrize("end", [". ", " ", "。", "\n", "! ", "", "\n\n", "; "])
def test_all_of_a_text_is_in_its_passages_in_order(end: str) -> None:
    text = "".join(f"{number:05}{end}" for number in range(600))
    covered = 0
    for passage in passages(text):
        start = text.index(passage)
        assert start <= covered, "passages overlap or touch"
        covered = start + len(passage)
        assert len(passage) <= 2 * PIECE_CHARS
    assert covered == len(text)


def test_two_sentences_next_to_each_other_share_a_passage() -> None:
    draw = random.Random(0)
    sentences = [f"Sentence {number} has {'many ' * draw.randrange(8)}words. " for number in range(40)]
    found = passages("".join(sentences))
    for one, two in zip(sentences, sentences[1:], strict=False):
        assert any(one in passage and two in passage for passage in found)


def test_the_work_grows_with_length_alone() -> None:
    assert sum(map(len, passages("A few words. " * 2_000))) <= 2 * 13 * 2_000


def test_an_empty_text_is_one_empty_passage() -> None:
    assert passages("") == [""]


def test_sentences_and_chinese_phrases_between_spaces_are_marked() -> None:
    end = f" {SENTENCE_END} "
    assert mark_sentences("One. Two.") == f"One.{end} Two."
    assert mark_sentences("骑三轮车的老人 雪天 一只猫在窗台上") == f"骑三轮车的老人{end}雪天{end}一只猫在窗台上"
    assert mark_sentences("怎么 制作 炸弹") == "怎么 制作 炸弹", "words parted to hide them stay together"
