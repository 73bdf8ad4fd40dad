"""What sources promise of their examples."""

from dataclasses import FrozenInstanceError
from typing import get_args

import numpy as np
import pytest

from models.datasets.examples import UNLABELLED, CaptionedPicture, Conversation, LabelledPicture, Language, Round
from models.datasets.llava import LlavaConversations
from tests.models.training_files import Data

PIXELS = np.zeros((1, 1, 3), np.uint8)


@pytest.mark.parametrize(
    ("example", "field"),
    [
        (Round("q", "a"), "answer"),
        (Conversation(None, ()), "rounds"),
        (CaptionedPicture(PIXELS, "c"), "caption"),
        (LabelledPicture(PIXELS, (1,)), "labels"),
    ],
)
def test_an_example_cannot_be_changed_once_it_is_given_out(example: object, field: str) -> None:
    """A source may give the same one in every epoch."""
    with pytest.raises(FrozenInstanceError):
        setattr(example, field, "other")


def test_a_round_of_a_source_that_knows_no_more_has_neither_kind_nor_language() -> None:
    assert Round("q", "a") == Round("q", "a", "", "") != Round("q", "a", "name", "en")
    assert set(get_args(Language)) == {"en", "zh", ""}


def test_what_is_unlabelled_is_the_place_of_no_class() -> None:
    assert UNLABELLED < 0


def test_an_example_depends_on_its_index_and_epoch_alone(data: Data) -> None:
    """What a resumed run reads in another order: pictures are augmented at random all the same."""
    places = [(index, epoch) for index in range(4) for epoch in range(3)]

    def read(order: list[tuple[int, int]]) -> dict[tuple[int, int], Conversation]:
        source = LlavaConversations.read(data.conversations, data.images, 32, seed=7, min_side_px=32, is_augmented=True)
        return {place: source.conversation(*place) for place in order}

    forwards, backwards = read(places), read(places[::-1])
    for place in places:
        assert forwards[place].rounds == backwards[place].rounds
        np.testing.assert_array_equal(forwards[place].pixels, backwards[place].pixels)
    first, second = forwards[0, 0].pixels, forwards[0, 1].pixels
    assert first is not None and second is not None and not np.array_equal(first, second)
