"""Sources of conversations: held out, and mixed."""

import pytest

from models.datasets.examples import Conversation
from models.datasets.llava import LlavaConversations
from models.training.sources import DataSettings, Listed, Mixed, conversation_sources
from tests.models.training_files import Data


def test_the_last_conversations_of_a_file_are_held_out(data: Data) -> None:
    settings = DataSettings(str(data.conversations), data.images, min_side_px=32, num_validation=3)
    training, validation = conversation_sources(settings, 32)
    assert validation is not None and (len(training), len(validation)) == (9, 3)
    whole = LlavaConversations.read(data.conversations, data.images, 32, seed=1, is_augmented=False, min_side_px=32)
    assert validation.conversation(0, 0).rounds == whole.conversation(9, 0).rounds
    with pytest.raises(ValueError, match="12 conversations, of which 12"):
        conversation_sources(DataSettings(str(data.conversations), data.images, num_validation=12), 32)


def test_replayed_examples_are_others_in_every_epoch(conversations: list[Conversation]) -> None:
    mixed = Mixed(Listed(conversations[:2]), Listed(conversations[2:8]), num_replayed=3)
    assert len(mixed) == 5
    assert mixed.conversation(1, 4) is conversations[1]
    replayed = [mixed.conversation(index, epoch) for epoch in range(3) for index in (2, 3, 4)]
    expected = [conversations[index] for index in (2, 3, 4, 5, 6, 7, 2, 3, 4)]
    assert all(conversation is other for conversation, other in zip(replayed, expected, strict=True))
