"""What is told of a conversation. Its route is tested in routes/test_conversations.py."""

import msgspec

from models.jobs import ChatGeneration
from service.http.schemas.chat import AnswerSettings
from service.http.schemas.conversations import ConversationResponse, ConversationTurn, TurnSettings


def test_what_is_not_there_is_told_as_such() -> None:
    turn = ConversationTurn(question="q", answer="a", created=2)
    told = msgspec.json.decode(msgspec.json.encode(ConversationResponse(id="c", created=1, model="m", turns=[turn])))
    assert told == {
        "id": "c",
        "object": "conversation",
        "created": 1,
        "model": "m",
        "turns": [{"question": "q", "answer": "a", "created": 2, "finish_reason": "stop"}],
        "title": None,
        "image_sha256": None,
        "expires_in_s": 0,
        "dropped_turns": 0,
    }


def test_settings_that_are_told_can_be_asked_for() -> None:
    for generation in (
        ChatGeneration(),
        ChatGeneration(num_beams=1, repetition_window=7),
        ChatGeneration(num_beams=1, do_sample=True, temperature=0.3, top_k=5, top_p=0.5, max_new_tokens=9),
    ):
        told = msgspec.json.encode(TurnSettings.of(generation, 5))
        read = AnswerSettings.model_validate_json(told)
        assert (read.generation(), read.seed) == (generation, 5)
