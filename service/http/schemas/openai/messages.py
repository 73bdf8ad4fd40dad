"""A talk as clients send it: messages of roles, each a text or parts of texts and pictures."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from service.http.schemas.openai.requests import TolerantPart

MAX_MESSAGES = 2048
MAX_PARTS = 256  # of one message

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


_Texts = Annotated[list[TextPart], Field(max_length=MAX_PARTS)]
_UserParts = Annotated[list[Annotated[TextPart | ImagePart, Field(discriminator="type")]], Field(max_length=MAX_PARTS)]
_AnswerParts = Annotated[
    list[Annotated[TextPart | RefusalPart, Field(discriminator="type")]], Field(max_length=MAX_PARTS)
]


class SystemMessage(TolerantPart):
    role: Literal["system", "developer"]
    content: str | _Texts


class UserMessage(TolerantPart):
    role: Literal["user"]
    content: str | _UserParts


class AssistantMessage(TolerantPart):
    """Without content where it called tools: what they gave cannot be sent, so nothing is left of it."""

    role: Literal["assistant"]
    content: str | _AnswerParts = ""


ChatMessages = Annotated[
    list[Annotated[SystemMessage | UserMessage | AssistantMessage, Field(discriminator="role")]],
    Field(min_length=1, max_length=MAX_MESSAGES),
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
