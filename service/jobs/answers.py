"""The answers of jobs: one definition for what Redis keeps, what HTTP sends and what openapi.yaml says.

Msgspec structs: inside a process they stay structs, and they are encoded once, at Redis' border and at HTTP's. Redis
keeps the whole verdicts; an answer is told a summary of them (`answer_of`) unless it is a refusal, or asked otherwise.
"""

import math
from collections.abc import Collection
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta

from models.jobs import Kind
from service.core.errors import Cancelled, ContentRefused, Deadline, from_code
from service.queue.record import Ending

PictureFormat = Literal["png", "jpeg", "webp"]
Count = Annotated[int, Meta(ge=0)]
Include = Literal["moderation"]  # what an answer has on demand alone

# `input` and `output`, as Redis keeps them; HTTP's has `flagged` and `screens` before them, or alone
Moderation = Annotated[
    dict[str, Any],
    Meta(
        description="What the safety screens said. `input` and `output`, the verdicts with every category's score, "
        "come with refusals and with `include`.",
        extra_json_schema={
            "required": ["flagged", "screens"],
            "properties": {
                "flagged": {"type": "boolean", "description": "Whether any of the verdicts is one."},
                "screens": {"type": "array", "items": {"type": "string"}, "description": "Those that judged."},
                "input": {"type": "object"},
                "output": {"type": "object"},
            },
        },
    ),
]


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
    conversation_id: Annotated[str, Meta(description="Empty: nothing of it is kept in a conversation.")]
    answer: str
    finish_reason: FinishReason
    usage: ChatUsage
    seed: int
    dropped_turns: Annotated[int, Meta(description="Oldest turns left out because the conversation is too long.")] = 0
    image: Annotated[bool, Meta(description="Whether the answer is about a picture; false: none came with it.")] = False
    vision_cached: Annotated[bool, Meta(description="The vision tower did not run for this turn.")] = False
    untrained: Annotated[bool, Meta(description="Answered by random weights.")] = False
    timings: ChatTimings | None = None
    moderation: Moderation | None = None


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
    unknown_words: Annotated[
        list[str],
        Meta(description="What the model's vocabulary has no token for, of the prompts as they were written."),
    ] = []
    untrained: Annotated[bool, Meta(description="Painted by random weights.")] = False
    timings: PaintTimings | None = None
    moderation: Moderation | None = None


Answer = ChatResponse | PaintResponse


CONTENT_FILTER: Literal["content_filter"] = "content_filter"  # code of a refused answer: 200, not an error


class Outcome(NamedTuple):
    """How a job ended, with its answer where there is one."""

    ending: Ending
    answer: Answer | None = None


def encode_answer(answer: Answer) -> bytes:
    """As an ending's body."""
    return _encoder.encode(answer)


def encode_summary(answer: ChatResponse) -> bytes:
    """What a conversation keeps of an answer beside its text."""
    moderation = None if answer.moderation is None else told_verdicts(answer.moderation, is_whole=False)
    return _encoder.encode(msgspec.structs.replace(answer, answer="", moderation=moderation))


def decode_summary(data: bytes, text: str) -> ChatResponse:
    """The answer again, as `answer_of` tells it, with its text."""
    return msgspec.structs.replace(_chat_decoder.decode(data), answer=text)


def encode_verdicts(moderation: dict[str, object]) -> bytes:
    """As the body of a refusal."""
    return _encoder.encode(moderation)


def outcome_of(ending: Ending, kind: Kind) -> Outcome:
    """Of an ending that was read from Redis."""
    if kind == "safety" or not (ending.state == "done" or ending.code == CONTENT_FILTER):
        return Outcome(ending)
    return Outcome(ending, _chat_decoder.decode(ending.body) if kind == "chat" else _paint_decoder.decode(ending.body))


def answer_of(outcome: Outcome, job_id: str, include: Collection[Include] = ()) -> Answer:
    """The answer as a client is told it. Raises ServiceError: what the job ended with instead of one."""
    ending, answer = outcome
    if answer is not None:
        is_whole = "moderation" in include or ending.code == CONTENT_FILTER
        return answer if answer.moderation is None else _with(answer, told_verdicts(answer.moderation, is_whole))
    if ending.code == ContentRefused.code:
        raise refused(ending.message, _dict_decoder.decode(ending.body) if ending.body else {})
    if ending.state == "cancelled" and ending.code != Deadline.code:
        raise Cancelled(f"job {job_id} was cancelled ({ending.code})")
    raise from_code(ending.code, ending.message, job_id)


def _with(answer: Answer, moderation: dict[str, Any]) -> Answer:
    """A copy: the answer itself is shared by all who follow the job."""
    return msgspec.structs.replace(answer, moderation=moderation)


def refused(message: str, moderation: dict[str, Any], param: str | None = None) -> ContentRefused:
    """The error of a content that is not allowed, with the whole verdicts on it."""
    return ContentRefused(message, param=param, extra={"moderation": told_verdicts(moderation, is_whole=True)})


def told_verdicts(moderation: dict[str, Any], is_whole: bool) -> dict[str, Any]:
    """Of verdicts as Redis keeps them: whether any flags, and which screens judged; whole: themselves too."""
    parts = moderation.values()
    screens = dict.fromkeys(screen for part in parts for screen in part["model"].split("+") if screen)
    flagged = any(result["flagged"] for part in parts for result in part["results"])
    return {"flagged": flagged, "screens": list(screens), **(moderation if is_whole else {})}


def milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3) if math.isfinite(seconds) else 0.0


_encoder = msgspec.msgpack.Encoder()
_chat_decoder = msgspec.msgpack.Decoder(ChatResponse)
_paint_decoder = msgspec.msgpack.Decoder(PaintResponse)
_dict_decoder = msgspec.msgpack.Decoder(dict[str, object])
