"""What all request bodies have in common.

Requests are pydantic models: unknown fields are refused (of a OpenRequest: ignored), JSON types are strict (form
fields are text, so they are parsed), but null is absent and a whole number may be written as 64.0 or 1e2. Responses,
beside them, are msgspec structs, of which openapi.yaml tells; the answers of jobs are in service/jobs/answers.py.
"""

from functools import cache
from typing import Annotated, ClassVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, model_validator

from service.core.settings import Settings
from service.jobs.answers import Include
from service.queue.record import Priority

MAX_SEED = 2**53 - 1  # exact in every JSON reader
MAX_ID_CHARS = 64
KIND_MARK = "="  # begins the tag of a union's member, which is part of an error's location and no field
_JSON_NAMES = {True: "true", False: "false", None: "null"}

Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
Included = Annotated[
    list[Include],
    Field(
        max_length=8,
        description="What the answer has beyond the usual: `moderation`, the screens' verdicts with every category's "
        "score. Refusals have them always.",
    ),
]


JobPriority = Annotated[
    Priority,
    Field(
        description="`batch` waits while others come: of jobs that wait, every fifth at least is one, if there are any."
    ),
]


CallbackUrl = Annotated[
    str,
    Field(
        min_length=1,
        max_length=2048,
        description="Where the service may fetch pictures from: called by POST with the ended job, as `GET /jobs/{id}` "
        "tells it. With `Prefer: respond-async` or `?async=true` alone.",
    ),
]


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


class OpenRequest(Request):
    """Base of the bodies that clients of other services send: what they say beyond its fields has no effect."""

    model_config = ConfigDict(extra="allow")

    def ignored(self) -> list[str]:
        """Names of the fields that were sent and have no effect; null is absent."""
        return list(self.model_extra or {})


@cache
def integers(model: type[BaseModel]) -> frozenset[str]:
    """The fields that hold a whole number."""
    return frozenset(name for name, field in model.model_fields.items() if _is_integer(field.annotation))


def _is_integer(annotation: object) -> bool:
    return annotation is int or any(_is_integer(part) for part in get_args(annotation))


def plain_text(value: str, limit_chars: int) -> str:
    if len(value) > limit_chars:
        raise ValueError(f"has {len(value)} characters, at most {limit_chars} are allowed")
    if "\0" in value:
        raise ValueError(f"contains a NUL character (character {value.index(chr(0)) + 1})")
    if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError("contains a surrogate that is half of no character")
    return value


def limits_of(info: ValidationInfo) -> Settings:
    assert isinstance(info.context, Settings), "bodies are validated with the settings as context"
    return info.context


def shown(value: object) -> str:
    """A short form of what was got; never a picture's text or a long prompt."""
    if isinstance(value, bool) or value is None:
        return f", got {_JSON_NAMES[value]}"
    if isinstance(value, int | float):
        return f", got {str(value)[:40]}"
    if isinstance(value, str):
        return f", got {value!r}" if len(value) <= 40 else f", got {len(value)} characters"
    if isinstance(value, dict):
        names = ", ".join(repr(str(name)[:20]) for name in list(value)[:3])
        return f", got an object {f'of {names}' if names else 'of no fields'}"
    return f", got a list of {len(value)}" if isinstance(value, list | tuple) else ", got something else"
