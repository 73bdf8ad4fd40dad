"""What is told of a conversation. Its route is tested in routes/test_conversations.py."""

import msgspec

from service.http.schemas.conversations import ConversationResponse, ConversationTurn


def test_what_is_not_there_is_told_as_such() -> None:
    turn = ConversationTurn(question="q", answer="a", created=2)
    told = msgspec.json.decode(msgspec.json.encode(ConversationResponse(id="c", created=1, model="m", turns=[turn])))
    assert told == {
        "id": "c",
        "object": "conversation",
        "created": 1,
        "model": "m",
        "turns": [{"question": "q", "answer": "a", "created": 2, "finish_reason": "stop"}],
        "image_sha256": None,
        "expires_in_s": 0,
        "dropped_turns": 0,
    }
