"""A conversation's parts: as they were when they come back, also those that an earlier release wrote."""

import msgspec

from models.jobs import ChatGeneration, Turn
from service.queue.conversation_record import (
    Conversation,
    ConversationMeta,
    StoredTurn,
    decode_meta,
    decode_turn,
    encode_part,
)

META = ConversationMeta(1, "m", "f", "ab", 2, [Turn.of_plain("before", "it")])


def test_parts_come_back_as_they_were() -> None:
    turn = StoredTurn("q", "a<b", "a<<b", 5, "length", 7, ChatGeneration(num_beams=1))
    assert decode_turn(encode_part(turn)) == turn and decode_meta(encode_part(META)) == META


def test_a_turn_that_was_written_without_its_settings_is_read() -> None:
    written = msgspec.msgpack.encode({"question": "q", "answer": "a", "answer_escaped": "a", "created": 5})
    turn = decode_turn(written)
    assert (turn.finish_reason, turn.seed, turn.generation) == ("stop", 0, None)


def test_turns_are_counted_with_those_that_are_gone_and_read_without() -> None:
    conversation = Conversation(META, [StoredTurn("q", "a<b", "a<<b", 5)], num_gone=3)
    assert conversation.num_turns == 4
    assert [(turn.question, turn.answer) for turn in conversation.history()] == [("before", "it"), ("q", "a<<b")]
