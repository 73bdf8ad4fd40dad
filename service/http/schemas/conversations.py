"""A conversation as it is told, listed and taken along, and what may be done with one."""

from typing import Annotated, ClassVar, Literal, Self

import msgspec
from msgspec import Meta
from pydantic import Field, ValidationInfo, field_validator, model_validator

from models.jobs import ChatGeneration
from service.http.schemas.chat import AnswerRequest, AnswerSettings, question_text
from service.http.schemas.requests import MAX_SEED, Request, limits_of, plain_text
from service.jobs.answers import FinishReason

EXPORT_VERSION: Literal[1] = 1
MAX_TITLE_CHARS = 200
_MAX_TEXTS = 32  # longest questions that all texts of an import may be as long as: they are judged, and cost time

Title = Annotated[str | None, Meta(description="Null: it has none.")]


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
    title: Title = None
    image_sha256: Annotated[str | None, Meta(description="Of the model's input pixels; null without a picture.")] = None
    expires_in_s: int = 0
    dropped_turns: Annotated[
        int, Meta(description="Oldest turns, gone for good: no more than VISCPM_CONVERSATION_MAX_TURNS are kept.")
    ] = 0
    object: Literal["conversation"] = "conversation"


class ListedConversation(msgspec.Struct, kw_only=True):
    """A conversation without its turns."""

    id: str
    title: Title
    created: Annotated[int, Meta(description="Unix time in seconds.")]
    last_used: Annotated[int, Meta(description="When its last turn began or was answered.")]
    num_turns: Annotated[int, Meta(description="Those too that are gone.")]
    has_image: bool
    object: Literal["conversation"] = "conversation"


class ConversationList(msgspec.Struct, kw_only=True):
    """A page of conversations, those used last first; `next_cursor` as `cursor` gives the next one."""

    data: list[ListedConversation]
    has_more: bool
    next_cursor: str | None = None
    object: Literal["list"] = "list"


class EarlierTurn(msgspec.Struct, kw_only=True):
    """One that the conversation's first request brought along."""

    question: str
    answer: str


class TurnSettings(msgspec.Struct, kw_only=True):
    """How an answer was searched for, as the fields of `/chat`."""

    max_new_tokens: int
    num_beams: int
    do_sample: bool
    temperature: float
    top_k: int
    top_p: float
    repetition_penalty: float
    length_penalty: float
    seed: int
    repetition_window: int | None = None

    @classmethod
    def of(cls, generation: ChatGeneration, seed: int) -> Self:
        fields = msgspec.structs.asdict(generation)
        return cls(seed=seed, **{name: fields[name] for name in cls.__struct_fields__ if name in fields})


class ExportedTurn(ConversationTurn, kw_only=True):
    settings: Annotated[TurnSettings | None, Meta(description="Null: of a turn of a release that kept none.")] = None


class ConversationExport(msgspec.Struct, kw_only=True, tag_field="object", tag="conversation.export"):
    """All that is kept of a conversation; `POST /conversations/import` takes it."""

    id: str
    created: int
    model: str
    turns: list[ExportedTurn]
    version: int = EXPORT_VERSION
    title: Title = None
    earlier_turns: Annotated[
        list[EarlierTurn], Meta(description="That came with its first request, before `turns`.")
    ] = []
    dropped_turns: int = 0
    image: Annotated[bytes | None, Meta(description="PNG of the model's input pixels, base64; null without one.")] = (
        None
    )


def title_text(value: str | None) -> str | None:
    """Raises ValueError."""
    return None if value is None else question_text(value, MAX_TITLE_CHARS)


class RenameRequest(Request):
    title: str | None = Field(description=f"At most {MAX_TITLE_CHARS} characters; null: none.")

    @model_validator(mode="before")
    @classmethod
    def _read_as_meant(cls, data: object) -> object:
        """Null is no absent field here: it takes the title away."""
        return data

    _check_title = field_validator("title")(title_text)


class BranchRequest(Request):
    turn: int | None = Field(
        None,
        ge=1,
        le=MAX_SEED,
        description="The first turn that is left out, counted from 1, dropped ones included; absent: none is.",
    )
    title: str | None = Field(None, description="Absent: that of the conversation.")

    _check_title = field_validator("title")(title_text)


class RegenerateRequest(AnswerRequest):
    """How the last question is answered anew. What is absent is as for `/chat`."""


class ImportedEarlierTurn(Request):
    question: str
    answer: str

    @field_validator("question", "answer")
    @classmethod
    def _check_text(cls, value: str) -> str:
        return plain_text(value, len(value))


class ImportedTurn(ImportedEarlierTurn):
    created: int = Field(ge=0, le=MAX_SEED)
    finish_reason: FinishReason = "stop"
    settings: AnswerSettings | None = None

    @field_validator("question")
    @classmethod
    def _check_question(cls, value: str, info: ValidationInfo) -> str:
        return question_text(value, limits_of(info).max_question_chars)


class ImportRequest(Request):
    """What an export gave. `id`, `created`, `model` and `dropped_turns` are given anew."""

    max_texts: ClassVar[int] = _MAX_TEXTS

    object: Literal["conversation.export"] = "conversation.export"
    version: Literal[1] = EXPORT_VERSION
    id: str | None = Field(None, max_length=128)
    created: int | None = None
    model: str | None = Field(None, max_length=256)
    dropped_turns: int | None = None
    title: str | None = None
    earlier_turns: list[ImportedEarlierTurn] = []
    turns: list[ImportedTurn]
    image: str | None = Field(None, description="As the field of this name of `/chat`.")

    _check_title = field_validator("title")(title_text)

    @model_validator(mode="after")
    def _check_sizes(self, info: ValidationInfo) -> Self:
        settings = limits_of(info)
        turns: list[ImportedEarlierTurn] = [*self.earlier_turns, *self.turns]
        if len(turns) > settings.conversation_max_turns:
            raise ValueError(
                f"has {len(turns)} turns, at most {settings.conversation_max_turns} are kept "
                "(VISCPM_CONVERSATION_MAX_TURNS)"
            )
        num_chars = sum(len(turn.question) + len(turn.answer) for turn in turns)
        limit_chars = _MAX_TEXTS * settings.max_question_chars
        if num_chars > limit_chars:
            raise ValueError(
                f"has {num_chars} characters of text, at most {limit_chars} are taken "
                f"({_MAX_TEXTS} x VISCPM_MAX_QUESTION_CHARS)"
            )
        return self
