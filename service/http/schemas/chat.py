"""A question, and new text in the stream of its answer (the answer itself: service/jobs/answers.py)."""

import unicodedata
from typing import Literal, Self

import msgspec
from pydantic import Field, ValidationInfo, field_validator, model_validator

from models.jobs import ChatGeneration
from service.http.schemas.requests import (
    MAX_ID_CHARS,
    CallbackUrl,
    Included,
    JobPriority,
    Request,
    Seed,
    limits_of,
    plain_text,
)

MAX_NEW_TOKENS = 4096

_BLANK_LETTERS = "\u115f\u1160\u2800\u3164\uffa0"  # fillers and the empty Braille cell: drawn as nothing

# Of what counts in some searches alone
_RANGES = {"temperature": (0, 10), "top_k": (-1, 100_000), "top_p": (0, 1), "length_penalty": (-10, 10)}


class AnswerSettings(Request):
    """How an answer is searched for."""

    max_new_tokens: int = Field(
        ChatGeneration().max_new_tokens, ge=2, le=MAX_NEW_TOKENS, description="The final eos included."
    )
    num_beams: int = Field(ChatGeneration().num_beams, ge=1, le=8, description="1 is greedy, more is beam search.")
    do_sample: bool = Field(False, description="Sample instead of searching; `num_beams` must then be 1 or absent.")
    temperature: float = Field(
        ChatGeneration().temperature,
        description="0 is greedy. As `top_k` and `top_p`, of `do_sample`: without it, it plays no part.",
        json_schema_extra={"minimum": 0, "maximum": 10},
    )
    top_k: int = Field(
        ChatGeneration().top_k, description="0 or -1: off.", json_schema_extra={"minimum": -1, "maximum": 100_000}
    )
    top_p: float = Field(
        ChatGeneration().top_p, description="0 is greedy.", json_schema_extra={"minimum": 0, "maximum": 1}
    )
    repetition_penalty: float = Field(ChatGeneration().repetition_penalty, ge=0.1, le=10)
    repetition_window: int | None = Field(None, ge=1, le=4096, description="Latest tokens looked at; absent: all.")
    length_penalty: float = Field(
        ChatGeneration().length_penalty,
        description="Of beam search.",
        json_schema_extra={"minimum": -10, "maximum": 10},
    )
    seed: Seed | None = Field(None, description="Absent: drawn, and told in the answer.")

    @field_validator("temperature", "top_k", "top_p", "length_penalty")
    @classmethod
    def _check_where_it_counts(cls, value: float, info: ValidationInfo) -> float:
        """What plays no part in the search that is asked for may be anything."""
        samples, beams = info.data.get("do_sample", False), info.data.get("num_beams", 1)
        name = str(info.field_name)
        low, high = _RANGES[name]
        counts = beams > 1 and not samples if name == "length_penalty" else samples
        if counts and not low <= value <= high:
            raise ValueError(f"must be from {low} to {high}, got {value:g}")
        return value

    @model_validator(mode="after")
    def _check_search(self) -> Self:
        if self.do_sample and "num_beams" in self.model_fields_set and self.num_beams > 1:
            raise ValueError(f"do_sample goes with num_beams 1, got num_beams {self.num_beams}")
        return self

    def generation(self) -> ChatGeneration:
        samples = self.do_sample and self.temperature > 0 and self.top_p > 0
        sampling = ChatGeneration()
        if samples:
            sampling = ChatGeneration(temperature=self.temperature, top_k=max(0, self.top_k), top_p=self.top_p)
        return msgspec.structs.replace(
            sampling,
            max_new_tokens=self.max_new_tokens,
            num_beams=1 if self.do_sample else self.num_beams,
            do_sample=samples,
            repetition_penalty=self.repetition_penalty,
            repetition_window=self.repetition_window,
            length_penalty=self.length_penalty,
        )


class AnswerRequest(AnswerSettings):
    """What a request for an answer says beside its question."""

    stream: bool = Field(False, description="Server-sent events instead of one JSON body.")
    strict_length: bool = Field(False, description="Refuse an over-long conversation instead of dropping old turns.")
    include: Included = []
    priority: JobPriority = "interactive"
    callback_url: CallbackUrl | None = None
    raw: bool = Field(
        False,
        description="As the reference does: honour the model's special tokens in the question, and drop the picture's "
        "alpha instead of composing it on VISCPM_IMAGE_BACKGROUND.",
    )


class ChatRequest(AnswerRequest):
    """One question about a picture, a new conversation's first or a later one of `conversation_id`."""

    image: str | None = Field(
        None,
        description="Base64 of a PNG, JPEG, WebP, GIF or BMP; a data URL; or, where fetching is on, an http(s) URL. "
        "A later turn needs none: it is about the conversation's picture, and another one is refused. Into a "
        "conversation without a picture one may be brought later.",
    )
    question: str = Field(min_length=1, description="Plain text; its length limit is VISCPM_MAX_QUESTION_CHARS.")
    conversation_id: str | None = Field(
        None, min_length=1, max_length=MAX_ID_CHARS, description="One to go on with; absent: a new one begins."
    )

    @field_validator("question")
    @classmethod
    def _check_question(cls, value: str, info: ValidationInfo) -> str:
        return question_text(value, limits_of(info).max_question_chars)


class ChatDelta(msgspec.Struct, kw_only=True):
    """New text in a stream. `offset` counts the characters before it."""

    id: str
    created: int
    model: str
    conversation_id: str
    delta: str
    offset: int
    object: Literal["chat.delta"] = "chat.delta"


def question_text(value: str, limit_chars: int) -> str:
    """A question that can be asked. Raises ValueError."""
    text = plain_text(value, limit_chars)
    if not any(map(_is_visible, text)):
        raise ValueError(
            f"has nothing but blanks and control characters ({len(text)}); at least one to be seen is needed"
        )
    return text


def _is_visible(character: str) -> bool:
    """Of letters, marks, numbers, punctuation and symbols; not of blanks, controls and formats (categories Z and C)."""
    return unicodedata.category(character)[0] not in "ZC" and character not in _BLANK_LETTERS
