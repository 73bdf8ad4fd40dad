"""A conversation as it is kept."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta


class ConversationTurn(msgspec.Struct, kw_only=True):
    question: str
    answer: str
    created: int
    finish_reason: str = "stop"


class ConversationResponse(msgspec.Struct, kw_only=True):
    id: str
    created: int
    model: str
    turns: list[ConversationTurn]
    image_sha256: Annotated[str | None, Meta(description="Of the model's input pixels; null without a picture.")] = None
    expires_in_s: int = 0
    dropped_turns: Annotated[
        int, Meta(description="Oldest turns, gone for good: no more than VISCPM_CONVERSATION_MAX_TURNS are kept.")
    ] = 0
    object: Literal["conversation"] = "conversation"
