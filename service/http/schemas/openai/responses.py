"""POST /v1/responses: the request, and the response that is answered or streamed (docs/guides/openai.md)."""

import re
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import msgspec
from msgspec import Meta
from pydantic import Field, field_validator

from service.core.errors import ConversationNotFound
from service.http.schemas.openai.chat_completions import VisCPMDetails
from service.http.schemas.openai.messages import MAX_MESSAGES, ImageUrl, Message, RefusalPart, Role, few_parts
from service.http.schemas.openai.requests import (
    GenerationRequest,
    Refusal,
    TolerantPart,
    must_be,
    no_tool_choice,
)
from service.jobs.answers import Count

MAX_RESPONSE_ID_CHARS = 128

_RESPONSE_ID = re.compile(r"resp_([A-Za-z0-9_-]{1,64})_([1-9][0-9]{0,8})")


class KeptResponse(NamedTuple):
    """Where a response is kept: its conversation, and which turn of it, from 1 on."""

    conversation_id: str
    turn: int


def response_id(kept: KeptResponse) -> str:
    return f"resp_{kept.conversation_id.removeprefix('conv-')}_{kept.turn}"


def kept_response(identifier: str) -> KeptResponse:
    """Where the response of an id is kept. Raises ConversationNotFound for an id of none."""
    match = _RESPONSE_ID.fullmatch(identifier)
    if match is None:
        raise no_response(identifier)
    return KeptResponse(f"conv-{match[1]}", int(match[2]))


def no_response(identifier: str) -> ConversationNotFound:
    return ConversationNotFound(
        f"previous_response_id: no response {identifier[:80]!r} is kept: it never was, was not stored, or was deleted",
        param="previous_response_id",
    )


def _text_alone(value: object) -> str | None:
    wanted = value.get("format") if isinstance(value, dict) else None
    kind = wanted.get("type", "text") if isinstance(wanted, dict) else "text"
    return None if kind == "text" else "must have the format {type: text}: the model keeps to no schema"


def _no_logprobs(value: object) -> str | None:
    asks = isinstance(value, list) and "message.output_text.logprobs" in value
    return "message.output_text.logprobs cannot be given" if asks else None


def _unsupported(instead: str) -> Refusal:
    return lambda value: f"cannot be taken; {instead}"


class InputText(TolerantPart):
    type: Literal["input_text", "output_text", "text"]
    text: str


class InputImage(TolerantPart):
    type: Literal["input_image"]
    image_url: str | ImageUrl = Field(description="A data URL, base64 or, where fetching is on, an http(s) URL.")

    @property
    def source(self) -> str:
        return self.image_url if isinstance(self.image_url, str) else self.image_url.url


_UserPart = Annotated[InputText | InputImage, Field(discriminator="type")]
_AnswerPart = Annotated[InputText | RefusalPart, Field(discriminator="type")]


class SystemItem(TolerantPart):
    role: Literal["system", "developer"]
    content: str | list[InputText]


class UserItem(TolerantPart):
    role: Literal["user"]
    content: str | list[_UserPart]


class AssistantItem(TolerantPart):
    role: Literal["assistant"]
    content: str | list[_AnswerPart]


_Item = SystemItem | UserItem | AssistantItem


class ResponseRequest(GenerationRequest):
    """What is asked, of a response before it or by itself."""

    refusals: ClassVar[dict[str, Refusal]] = {
        "tool_choice": no_tool_choice,
        "text": _text_alone,
        "background": must_be(False),
        "top_logprobs": must_be(0),
        "include": _no_logprobs,
        "conversation": _unsupported("use previous_response_id"),
        "prompt": _unsupported("there are no prompts here: use instructions and input"),
    }

    input: (
        str
        | Annotated[
            list[Annotated[SystemItem | UserItem | AssistantItem, Field(discriminator="role")]],
            Field(min_length=1, max_length=MAX_MESSAGES),
        ]
    )
    instructions: str | None = Field(None, description="Stands before the first question of this request.")
    previous_response_id: str | None = Field(None, min_length=1, max_length=MAX_RESPONSE_ID_CHARS)
    store: bool = Field(True, description="Keep it as a conversation, which `previous_response_id` goes on with.")
    stream: bool = False
    max_output_tokens: int | None = Field(None, ge=1, description="The final eos included; more than 4096 is 4096.")
    truncation: Literal["auto", "disabled"] = Field(
        "auto", description="disabled: a talk that is too long is refused instead of losing its oldest turns."
    )

    @field_validator("input", mode="before")
    @classmethod
    def _check_items(cls, value: object) -> object:
        """Calls of tools and what they gave have no role by which they could be refused."""
        for index, item in enumerate(value if isinstance(value, list) else []):
            kind = item.get("type") if isinstance(item, dict) else None
            if kind not in (None, "message"):
                raise ValueError(f"item {index} is of the type {str(kind)[:40]!r}; only messages can be taken here")
        return few_parts(value)

    def told(self) -> Iterator[Message]:
        """What instructions and input say, in order."""
        if self.instructions:
            yield Message("system", self.instructions, "instructions")
        if isinstance(self.input, str):
            yield Message("user", self.input, "input")
            return
        for index, item in enumerate(self.input):
            yield _message(item, f"input.{index}")


def _message(item: _Item, param: str) -> Message:
    role: Role = "system" if item.role == "developer" else item.role
    if isinstance(item.content, str):
        return Message(role, item.content, param)
    texts, pictures = [], []
    for number, part in enumerate(item.content):
        if isinstance(part, InputImage):
            pictures.append((part.source, f"{param}.content.{number}.image_url"))
        else:
            texts.append(part.refusal if isinstance(part, RefusalPart) else part.text)
    return Message(role, "\n".join(texts), param, pictures)


class InputTokensDetails(msgspec.Struct, kw_only=True):
    image_tokens: Count
    cached_tokens: Count = 0
    cache_write_tokens: Count = 0


class OutputTokensDetails(msgspec.Struct, kw_only=True):
    reasoning_tokens: Count = 0


class DeletedResponse(msgspec.Struct, kw_only=True):
    id: str
    object: Literal["response"] = "response"
    deleted: bool = True


class ResponseUsage(msgspec.Struct, kw_only=True):
    input_tokens: Count
    output_tokens: Count
    total_tokens: Count
    input_tokens_details: InputTokensDetails
    output_tokens_details: OutputTokensDetails


class OutputText(msgspec.Struct, kw_only=True):
    text: str
    type: Literal["output_text"] = "output_text"
    annotations: list[dict[str, Any]] = []
    logprobs: list[dict[str, Any]] = []


class OutputMessage(msgspec.Struct, kw_only=True):
    id: str
    status: Literal["in_progress", "completed", "incomplete"]
    content: list[OutputText]
    type: Literal["message"] = "message"
    role: Literal["assistant"] = "assistant"


class IncompleteDetails(msgspec.Struct, kw_only=True):
    reason: Literal["max_output_tokens", "content_filter"]


class TextFormat(msgspec.Struct, frozen=True):
    type: Literal["text"] = "text"


class TextConfig(msgspec.Struct, frozen=True):
    format: TextFormat = TextFormat()


class ResponseObject(msgspec.Struct, kw_only=True):
    """A response, whole or while it is written."""

    id: str
    created_at: int
    model: Annotated[str, Meta(description="As the request named it.")]
    status: Literal["in_progress", "completed", "incomplete"]
    output: list[OutputMessage]
    instructions: str | None
    max_output_tokens: int | None
    previous_response_id: str | None
    store: bool
    temperature: float | None
    top_p: float | None
    truncation: Literal["auto", "disabled"]
    incomplete_details: IncompleteDetails | None = None
    usage: ResponseUsage | None = None
    viscpm: VisCPMDetails | None = None
    object: Literal["response"] = "response"
    error: None = None
    background: bool = False
    metadata: dict[str, str] = {}
    parallel_tool_calls: bool = False
    text: TextConfig = TextConfig()
    tool_choice: str = "auto"
    tools: list[dict[str, Any]] = []
