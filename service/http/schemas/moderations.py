"""What the screens alone are asked, and what they say of it."""

from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta
from pydantic import BaseModel, Discriminator, Field, Tag, ValidationInfo, field_validator

from safety.categories import OPENAI_CATEGORIES
from service.http.schemas.requests import KIND_MARK, MAX_ID_CHARS, OpenRequest, Request, limits_of, plain_text

MAX_PARTS = 32  # of one moderation
MAX_PICTURES = 8


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
_TEXT, _TEXTS, _PARTS = (KIND_MARK + kind for kind in ("text", "texts", "parts"))


def _kind(value: object) -> str | None:
    """By what the input's errors are told; None: it is nothing that can be meant."""
    if isinstance(value, str):
        return _TEXT
    if not isinstance(value, list):
        return None
    if all(isinstance(part, dict | BaseModel) for part in value) and value:
        return _PARTS
    return _TEXTS if all(isinstance(part, str) for part in value) else None


_Input = Annotated[
    Annotated[str, Tag(_TEXT)] | Annotated[_Texts, Tag(_TEXTS)] | Annotated[_Parts, Tag(_PARTS)],
    Discriminator(
        _kind, custom_error_type="input_kind", custom_error_message="must be a text, a list of texts or a list of parts"
    ),
]


class ModerationRequest(OpenRequest):
    """What the safety screens are to look at. What is no field here has no effect, as on all routes of `/v1`."""

    max_texts: ClassVar[int] = MAX_PARTS

    input: _Input = Field(
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
            plain_text(text, limits_of(info).max_question_chars)
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
    """What the screens found in one input. A category of OpenAI's that no screen judges is null, not false."""

    flagged: bool
    categories: dict[str, bool | None] = msgspec.field(default_factory=lambda: dict.fromkeys(OPENAI_CATEGORIES))
    category_scores: Annotated[
        dict[str, float | None], Meta(description="0 to 1; what counts is the policy's threshold.")
    ] = msgspec.field(default_factory=lambda: dict.fromkeys(OPENAI_CATEGORIES))
    category_applied_input_types: Annotated[
        dict[str, list[str]], Meta(description="What was judged by each category; empty: nothing was.")
    ] = msgspec.field(default_factory=lambda: {category: [] for category in OPENAI_CATEGORIES})


class ModerationResponse(msgspec.Struct, kw_only=True):
    id: str
    model: Annotated[str, Meta(description="The screens that ran.")]
    results: list[Moderation]
