"""A talk as clients send it: messages of roles, each a text or parts of texts and pictures."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from service.http.schemas.openai.requests import TolerantPart

MAX_MESSAGES = 1024
MAX_PARTS = 2048  # of all messages: each that is wrong costs an error of its own

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True)
class Message:
    """What one message says, in whatever shape it came.

    Attributes:
        pictures: what names a picture (base64, data URL, URL), and the field that holds it.
    """

    role: Role
    text: str
    param: str
    pictures: list[tuple[str, str]] = field(default_factory=list)


class TextPart(TolerantPart):
    type: Literal["text"]
    text: str


class RefusalPart(TolerantPart):
    """What an earlier answer refused with."""

    type: Literal["refusal"]
    refusal: str


class ImageUrl(TolerantPart):
    url: str = Field(description="A data URL, base64 or, where fetching is on, an http(s) URL.")


class ImagePart(TolerantPart):
    type: Literal["image_url"]
    image_url: ImageUrl | str

    @property
    def source(self) -> str:
        return self.image_url if isinstance(self.image_url, str) else self.image_url.url


def few_parts(value: object) -> object:
    """Before anything of a talk is validated. Raises ValueError."""
    contents = [one.get("content") for one in value if isinstance(one, dict)] if isinstance(value, list) else []
    num_parts = sum(len(content) for content in contents if isinstance(content, list))
    if num_parts > MAX_PARTS:
        raise ValueError(f"has {num_parts} parts, at most {MAX_PARTS} are read")
    return value


_UserPart = Annotated[TextPart | ImagePart, Field(discriminator="type")]
_AnswerPart = Annotated[TextPart | RefusalPart, Field(discriminator="type")]


class SystemMessage(TolerantPart):
    role: Literal["system", "developer"]
    content: str | list[TextPart]


class UserMessage(TolerantPart):
    role: Literal["user"]
    content: str | list[_UserPart]


class AssistantMessage(TolerantPart):
    """Without content where it called tools: what they gave cannot be sent, so nothing is left of it."""

    role: Literal["assistant"]
    content: str | list[_AnswerPart] = ""


ChatMessages = Annotated[
    list[Annotated[SystemMessage | UserMessage | AssistantMessage, Field(discriminator="role")]],
    Field(min_length=1, max_length=MAX_MESSAGES),
    BeforeValidator(few_parts),
]


def told(messages: list[SystemMessage | UserMessage | AssistantMessage]) -> Iterator[Message]:
    """What they say, in order."""
    for index, message in enumerate(messages):
        param = f"messages.{index}"
        role: Role = "system" if message.role == "developer" else message.role
        if isinstance(message.content, str):
            yield Message(role, message.content, param)
            continue
        texts, pictures = [], []
        for number, part in enumerate(message.content):
            if isinstance(part, ImagePart):
                pictures.append((part.source, f"{param}.content.{number}.image_url"))
            else:
                texts.append(part.refusal if isinstance(part, RefusalPart) else part.text)
        yield Message(role, "\n".join(texts), param, pictures)
