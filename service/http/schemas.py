"""Request bodies with their limits, and what HTTP answers beside the answers of jobs (service/jobs/answers.py).

Requests are pydantic models: unknown fields are refused, JSON types are strict (form fields are text, so they are
parsed), but null is absent and a whole number may be written as 64.0 or 1e2. Responses are msgspec structs, of which
openapi.yaml tells.
"""

import unicodedata
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

import msgspec
from msgspec import Meta
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from models.jobs import ChatGeneration
from service.core.settings import Settings
from service.jobs.answers import ChatResponse, PaintResponse, PictureFormat

MAX_SEED = 2**53 - 1  # exact in every JSON reader
MAX_ID_CHARS = 64
_BLANK_LETTERS = "\u115f\u1160\u2800\u3164\uffa0"  # fillers and the empty Braille cell: drawn as nothing
MAX_PARTS = 32  # of one moderation
MAX_PICTURES = 8

# Of what counts in some searches alone
_RANGES = {"temperature": (0, 10), "top_k": (-1, 100_000), "top_p": (0, 1), "length_penalty": (-10, 10)}

Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]


class Request(BaseModel):
    """Base of the request bodies. The validation context is the Settings that hold the configurable limits."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    max_texts: ClassVar[int] = 2  # of free text in one request; bounds what is looked at before it is validated

    @model_validator(mode="before")
    @classmethod
    def _read_as_meant(cls, data: object) -> object:
        if not isinstance(data, dict):
            return data
        given = {name: value for name, value in data.items() if value is not None}
        for name in integers(cls).intersection(given):
            value = given[name]
            if isinstance(value, float) and value.is_integer() and abs(value) <= MAX_SEED:
                given[name] = int(value)
        return given


@cache
def integers(model: type[BaseModel]) -> frozenset[str]:
    """The fields that hold a whole number."""
    return frozenset(name for name, field in model.model_fields.items() if _is_integer(field.annotation))


def _is_integer(annotation: object) -> bool:
    return annotation is int or any(_is_integer(part) for part in get_args(annotation))


def _plain_text(value: str, limit_chars: int) -> str:
    if len(value) > limit_chars:
        raise ValueError(f"has {len(value)} characters, at most {limit_chars} are allowed")
    if "\0" in value:
        raise ValueError("contains a NUL character")
    if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError("contains a surrogate that is half of no character")
    return value


def _is_visible(character: str) -> bool:
    """Of letters, marks, numbers, punctuation and symbols; not of blanks, controls and formats (categories Z and C)."""
    return unicodedata.category(character)[0] not in "ZC" and character not in _BLANK_LETTERS


def _limits(info: ValidationInfo) -> Settings:
    assert isinstance(info.context, Settings), "bodies are validated with the settings as context"
    return info.context


class ChatRequest(Request):
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
    stream: bool = Field(False, description="Server-sent events instead of one JSON body.")
    max_new_tokens: int = Field(ChatGeneration().max_new_tokens, ge=2, le=4096, description="The final eos included.")
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
    strict_length: bool = Field(False, description="Refuse an over-long conversation instead of dropping old turns.")
    raw: bool = Field(
        False,
        description="As the reference does: honour the model's special tokens in the question, and drop the picture's "
        "alpha instead of composing it on VISCPM_IMAGE_BACKGROUND.",
    )

    @field_validator("question")
    @classmethod
    def _check_question(cls, value: str, info: ValidationInfo) -> str:
        text = _plain_text(value, _limits(info).max_question_chars)
        if not any(map(_is_visible, text)):
            raise ValueError("has nothing but blanks and control characters; at least one to be seen is needed")
        return text

    @field_validator("temperature", "top_k", "top_p", "length_penalty")
    @classmethod
    def _check_where_it_counts(cls, value: float, info: ValidationInfo) -> float:
        """What plays no part in the search that is asked for may be anything."""
        samples, beams = info.data.get("do_sample", False), info.data.get("num_beams", 1)
        name = str(info.field_name)
        low, high = _RANGES[name]
        counts = beams > 1 and not samples if name == "length_penalty" else samples
        if counts and not low <= value <= high:
            raise ValueError(f"must be from {low} to {high}")
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


class PaintRequest(Request):
    """One prompt, `n` pictures."""

    prompt: str = Field(min_length=1, description="Plain text; its length limit is VISCPM_MAX_PROMPT_CHARS.")
    negative_prompt: str = Field("", description="What the picture should not show.")
    n: int = Field(1, ge=1, le=4, description="Pictures wanted.")
    candidates: int | None = Field(
        None, ge=1, le=4, description="Pictures painted, at least `n`; absent: 4 when reranking, else `n`."
    )
    rerank: bool | Literal["auto"] = Field(
        "auto", description="`auto`: where the worker has a reranker for the prompt's language."
    )
    num_inference_steps: int = Field(50, ge=1, le=1000)
    guidance_scale: float = Field(7.5, ge=0, le=50)
    size: str = Field(
        "auto", pattern=r"^(auto|[1-9][0-9]{1,3}x[1-9][0-9]{1,3})$", description="`512x512`, or the default."
    )
    seed: Seed | None = Field(
        None, description="Candidate i starts from seed + i, of the same limit. Absent: drawn, told."
    )
    output_format: PictureFormat = "png"
    output_compression: int = Field(100, ge=0, le=100, description="Quality of jpeg and webp; png is lossless.")
    response_format: Literal["b64_json"] = "b64_json"
    stream: bool = Field(False, description="Server-sent events: progress, previews and the finished pictures.")
    partial_images: int = Field(0, ge=0, le=3, description="Previews while painting; needs `stream`.")
    raw: bool = Field(False, description="Honour the model's special tokens in the prompt, as the reference does.")

    @field_validator("prompt", "negative_prompt")
    @classmethod
    def _check_prompt(cls, value: str, info: ValidationInfo) -> str:
        return _plain_text(value, _limits(info).max_prompt_chars)

    @model_validator(mode="after")
    def _check_counts(self) -> Self:
        if self.candidates is not None and self.candidates < self.n:
            raise ValueError(f"candidates must be at least n, got candidates {self.candidates} for n {self.n}")
        if self.partial_images and not self.stream:
            raise ValueError(f"partial_images needs stream, got partial_images {self.partial_images} without it")
        return self

    def side_px(self) -> tuple[int, int] | None:
        """(width, height), or None for the default size."""
        if self.size == "auto":
            return None
        width, height = self.size.split("x")
        return int(width), int(height)


class TextPart(Request):
    type: Literal["text"]
    text: str


class ImageUrl(Request):
    url: str = Field(description="As `image` of a chat request: base64, a data URL or, where fetching is on, http(s).")


class ImagePart(Request):
    type: Literal["image_url"]
    image_url: ImageUrl


_Parts = Annotated[
    list[Annotated[TextPart | ImagePart, Field(discriminator="type")]], Field(min_length=1, max_length=MAX_PARTS)
]
_Texts = Annotated[list[str], Field(min_length=1, max_length=MAX_PARTS)]


class ModerationRequest(Request):
    """What the safety screens are to look at."""

    max_texts: ClassVar[int] = MAX_PARTS

    input: str | _Texts | _Parts = Field(
        description=f"A text, up to {MAX_PARTS} texts, or up to {MAX_PARTS} parts of texts and pictures, of which at "
        f"most {MAX_PICTURES} are pictures. A text's length limit is VISCPM_MAX_QUESTION_CHARS."
    )
    model: str = Field(
        "", max_length=MAX_ID_CHARS, description="Taken and not used: the service has one set of screens."
    )

    @field_validator("input")
    @classmethod
    def _check_input(cls, value: str | _Texts | _Parts, info: ValidationInfo) -> str | _Texts | _Parts:
        parts = [value] if isinstance(value, str) else value
        for part in parts:
            text = part if isinstance(part, str) else part.text if isinstance(part, TextPart) else ""
            _plain_text(text, _limits(info).max_question_chars)
        pictures = sum(isinstance(part, ImagePart) for part in parts)
        if pictures > MAX_PICTURES:
            raise ValueError(f"has {pictures} pictures, at most {MAX_PICTURES} are allowed")
        return value

    def texts(self) -> list[str]:
        """Those that get a result each."""
        if isinstance(self.input, str):
            return [self.input]
        return [part for part in self.input if isinstance(part, str)]

    def parts(self) -> list[TextPart | ImagePart]:
        """Those that get one result together."""
        return [] if isinstance(self.input, str) else [part for part in self.input if not isinstance(part, str)]


class Moderation(msgspec.Struct, kw_only=True):
    """What the screens found in one input. A category that no screen judges is absent, not false."""

    flagged: bool
    categories: dict[str, bool] = {}
    category_scores: Annotated[
        dict[str, float], Meta(description="0 to 1; what counts is the policy's threshold.")
    ] = {}
    category_applied_input_types: dict[str, list[str]] = {}


class ModerationResponse(msgspec.Struct, kw_only=True):
    id: str
    model: Annotated[str, Meta(description="The screens that ran.")]
    results: list[Moderation]


class ChatDelta(msgspec.Struct, kw_only=True):
    """New text in a stream. `offset` counts the characters before it."""

    id: str
    created: int
    model: str
    conversation_id: str
    delta: str
    offset: int
    object: Literal["chat.delta"] = "chat.delta"


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


class ErrorDetail(msgspec.Struct, kw_only=True):
    message: str
    type: str
    param: str | None
    code: str | None
    job_id: str | msgspec.UnsetType = msgspec.UNSET
    moderation: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET


class ErrorResponse(msgspec.Struct, kw_only=True):
    error: ErrorDetail


class JobResponse(msgspec.Struct, kw_only=True):
    """Where a job is; with its answer or its error once it has ended."""

    id: str
    kind: Literal["chat", "paint"]
    state: Literal["reserved", "queued", "running", "generated", "done", "refused", "failed", "cancelled"]
    created: int
    object: Literal["job"] = "job"
    answer: ChatResponse | PaintResponse | None = None
    error: ErrorDetail | None = None
