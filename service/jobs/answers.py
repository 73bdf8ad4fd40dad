"""The answers, one definition for what Redis keeps, what HTTP sends and what openapi.yaml says; and how they are made.

Msgspec structs: inside a process they stay structs, and they are encoded once, at Redis' border or at HTTP's.
"""

import math
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

PictureFormat = Literal["png", "jpeg", "webp"]
Count = Annotated[int, Meta(ge=0)]


class ChatUsage(msgspec.Struct, kw_only=True):
    prompt_tokens: Count
    image_tokens: Annotated[int, Meta(ge=0, description="Of the prompt's.")]
    completion_tokens: Count
    total_tokens: Count


class ChatTimings(msgspec.Struct, kw_only=True):
    """Milliseconds in the worker."""

    prefill_ms: float
    decode_ms: float


FinishReason = Literal["stop", "length", "content_filter"]


class ChatResponse(msgspec.Struct, kw_only=True, tag_field="object", tag="chat.answer"):
    """An answer; also the last event of a stream."""

    id: str
    created: Annotated[int, Meta(description="Unix time in seconds.")]
    model: str
    conversation_id: str
    answer: str
    finish_reason: FinishReason
    usage: ChatUsage
    seed: int
    dropped_turns: Annotated[int, Meta(description="Oldest turns left out because the talk is too long.")] = 0
    vision_cached: Annotated[bool, Meta(description="The vision tower did not run for this turn.")] = False
    untrained: Annotated[bool, Meta(description="Answered by random weights.")] = False
    timings: ChatTimings | None = None
    moderation: dict[str, Any] | None = None


class PaintedPicture(msgspec.Struct, kw_only=True):
    b64_json: Annotated[bytes, Meta(description="The picture, base64.")]
    seed: Annotated[int, Meta(description="Ask again with this seed and candidates 1 for this picture.")]
    score: Annotated[float | None, Meta(description="The reranker's; null without one.")] = None


class PaintUsage(msgspec.Struct, kw_only=True):
    input_tokens: Count
    output_tokens: Count
    total_tokens: Count


class PaintTimings(msgspec.Struct, kw_only=True):
    """Milliseconds in the worker."""

    denoise_ms: float
    decode_ms: float


class PaintResponse(msgspec.Struct, kw_only=True, tag_field="object", tag="paint.answer"):
    """The pictures, best first when reranked, else in the order of their seeds."""

    id: str
    created: Annotated[int, Meta(description="Unix time in seconds.")]
    model: str
    data: list[PaintedPicture]
    size: str
    output_format: PictureFormat
    usage: PaintUsage
    reranker: Annotated[str, Meta(description="What scored the candidates; empty: nothing did.")] = ""
    candidates: Annotated[int, Meta(description="Pictures painted.")] = 1
    seed: int = 0
    untrained: Annotated[bool, Meta(description="Painted by random weights.")] = False
    timings: PaintTimings | None = None
    moderation: dict[str, Any] | None = None


Answer = ChatResponse | PaintResponse


def milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3) if math.isfinite(seconds) else 0.0
