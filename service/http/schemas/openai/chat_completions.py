"""POST /v1/chat/completions: the request, the answer, and the pieces of a streamed one (docs/guides/openai.md)."""

from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType
from pydantic import Field, field_validator

from models.jobs import ChatGeneration
from service.core.errors import InvalidRequest
from service.http.schemas.openai.messages import ChatMessages
from service.http.schemas.openai.requests import (
    GenerationRequest,
    Refusal,
    Search,
    TolerantPart,
    must_be,
    no_audio,
    no_tool_choice,
    texts_alone,
)
from service.http.schemas.requests import plain_text
from service.jobs.answers import Count, FinishReason

MAX_ANSWERS = 4
MAX_STOPS = 4
MAX_STOP_CHARS = 256


def _text_format(value: object) -> str | None:
    kind = value.get("type") if isinstance(value, dict) else None
    return None if kind == "text" else "must be {type: text}: the model keeps to no schema"


class StreamOptions(TolerantPart):
    include_usage: bool = Field(False, description="A last chunk with the usage.")


class ModerationMode(TolerantPart):
    mode: Literal["block"] = "block"


class ModerationPolicy(TolerantPart):
    input: ModerationMode = ModerationMode()
    output: ModerationMode = ModerationMode()


class ModerationWish(TolerantPart):
    """The screens always run and always block; this has their verdicts told."""

    policy: ModerationPolicy = ModerationPolicy()


class ChatCompletionRequest(GenerationRequest):
    """A talk to be gone on with, as OpenAI's clients send it."""

    refusals: ClassVar[dict[str, Refusal]] = {
        "tool_choice": no_tool_choice,
        "function_call": no_tool_choice,
        "response_format": _text_format,
        "logprobs": must_be(False),
        "modalities": texts_alone,
        "audio": no_audio,
    }

    messages: ChatMessages = Field(description="A talk that ends with the user's question.")
    max_tokens: int | None = Field(None, ge=1, description="The final eos included; more than 4096 is 4096.")
    max_completion_tokens: int | None = Field(None, ge=1, description="The same; goes before `max_tokens`.")
    n: int = Field(1, ge=1, le=MAX_ANSWERS, description="Answers of the seeds from `seed` on; more than 1 is sampled.")
    stop: str | Annotated[list[str], Field(max_length=MAX_STOPS)] = Field(
        default_factory=list, description="The answer is cut before the first of them."
    )
    stream: bool = False
    stream_options: StreamOptions = Field(default_factory=StreamOptions)
    moderation: ModerationWish | None = Field(None, description="Present: the answer has the screens' verdicts.")

    @field_validator("stop")
    @classmethod
    def _check_stop(cls, value: str | list[str]) -> str | list[str]:
        for text in [value] if isinstance(value, str) else value:
            plain_text(text, MAX_STOP_CHARS)
        return value

    def require_possible(self) -> None:
        super().require_possible()
        if self.n > 1 and self.search != "sample":
            raise InvalidRequest(
                f"n: {self.n} different answers have to be sampled (temperature or top_p above 0), and {self.search} "
                "search gives one",
                param="n",
            )

    def stops(self) -> list[str]:
        return [one for one in ([self.stop] if isinstance(self.stop, str) else self.stop) if one]

    def generation_of_all(self) -> ChatGeneration:
        return self.generation(self.max_completion_tokens or self.max_tokens)

    def ignored(self) -> list[str]:
        both = {"max_tokens", "max_completion_tokens"} <= self.model_fields_set
        return [*super().ignored(), *(["max_tokens"] if both else [])]


class PromptTokensDetails(msgspec.Struct, kw_only=True):
    image_tokens: Count
    text_tokens: Count
    cached_tokens: Count = 0
    audio_tokens: Count = 0


class CompletionUsage(msgspec.Struct, kw_only=True):
    prompt_tokens: Count
    completion_tokens: Count
    total_tokens: Count
    prompt_tokens_details: PromptTokensDetails


class VisCPMDetails(msgspec.Struct, kw_only=True):
    """What the answer tells beyond OpenAI's shape."""

    search: Annotated[Search, Meta(description="How the answers were found.")]
    seed: Annotated[int, Meta(description="Of the first answer; each further one has the next.")]
    image: Annotated[bool, Meta(description="Whether the answers are about a picture.")]
    vision_cached: Annotated[bool, Meta(description="The vision tower did not run.")]
    pictures_ignored: Annotated[int, Meta(description="Other pictures of the talk: it is about the latest one.")]
    dropped_turns: Annotated[int, Meta(description="Oldest turns left out because the talk is too long.")]
    untrained: bool
    flagged: Annotated[bool, Meta(description="Whether a safety screen flagged anything.")]
    conversation_id: Annotated[
        str | UnsetType, Meta(description="Of a response that is kept, for GET /conversations/{id}.")
    ] = UNSET
    jobs: Annotated[list[str], Meta(description="Ids of the answers' jobs, for GET /jobs/{id}.")]


class AssistantAnswer(msgspec.Struct, kw_only=True):
    content: str | None
    role: Literal["assistant"] = "assistant"
    refusal: str | None = None


class Choice(msgspec.Struct, kw_only=True):
    index: int
    message: AssistantAnswer
    finish_reason: FinishReason
    logprobs: None = None


Verdicts = Annotated[
    dict[str, Any],
    Meta(description="`input` and `output`: the screens' verdicts. With `moderation` in the request, and refusals."),
]


class ChatCompletion(msgspec.Struct, kw_only=True):
    """A whole answer."""

    id: str
    created: int
    model: Annotated[str, Meta(description="As the request named it.")]
    choices: list[Choice]
    usage: CompletionUsage
    system_fingerprint: Annotated[str | None, Meta(description="The answering model's own name.")]
    viscpm: VisCPMDetails
    moderation: Verdicts | UnsetType = UNSET
    object: Literal["chat.completion"] = "chat.completion"


class Delta(msgspec.Struct, kw_only=True):
    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType = UNSET


class ChunkChoice(msgspec.Struct, kw_only=True):
    index: int
    delta: Delta
    finish_reason: FinishReason | None = None
    logprobs: None = None


class ChatCompletionChunk(msgspec.Struct, kw_only=True):
    """A piece of a streamed answer. `usage` is there where it was asked for: null until the last chunk."""

    id: str
    created: int
    model: str
    choices: list[ChunkChoice]
    system_fingerprint: str | None
    usage: CompletionUsage | None | UnsetType = UNSET
    viscpm: Annotated[VisCPMDetails | UnsetType, Meta(description="In the last chunk of choices.")] = UNSET
    moderation: Verdicts | UnsetType = UNSET
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
