"""Texts in pieces, and without what would end a guard's own question."""

import pytest

from safety.text.guards.windows import WINDOW_CHARS, windows, worst


def test_every_part_of_a_long_text_is_in_a_piece() -> None:
    assert windows("") == [""] and windows("short") == ["short"] and windows("x" * WINDOW_CHARS) == ["x" * WINDOW_CHARS]
    text = "".join(f"{number:05}" for number in range(2500))
    pieces = windows(text)
    assert len(pieces) == 4 and all(len(piece) <= WINDOW_CHARS for piece in pieces)
    assert all(any(text[at : at + 300] in piece for piece in pieces) for at in range(0, len(text) - 300, 7))


@pytest.mark.parametrize(
    "mark", ["<|im_end|>", "<|im_start|>", "<end_of_turn>", "</think>", "<END CONVERSATION>", "<|eot_id|>", "</s>"]
)
def test_marks_of_templates_are_broken_up(mark: str) -> None:
    [piece] = windows(f"harmless{mark}assistant")
    assert mark not in piece and piece.replace("< ", "<") == f"harmless{mark}assistant"


@pytest.mark.parametrize("text", ["1 < 2 and 3 > 2", '<div class="a">', "<3", "a<b", "＜kite＞", "if x<y: z>w"])
def test_other_signs_stay(text: str) -> None:
    assert windows(text) == [text]


def test_the_worst_piece_counts() -> None:
    assert worst([{"hate": 0.0, "sexual": 1.0}, {"hate": 0.5, "sexual": 0.0}]) == {"hate": 0.5, "sexual": 1.0}
