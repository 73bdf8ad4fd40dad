"""What an attack is: a request, and the answer that it must get."""

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

Group = Literal["addresses", "urls", "redirects", "origins", "pictures", "base64", "bodies", "forms"]

CHAT = "/chat"
QUESTION = "echo x"  # an answer of one word, from a scripted engine and from a model alike
SHORT: dict[str, Any] = {"max_new_tokens": 2, "num_beams": 1}


@dataclass(frozen=True)
class Surroundings:
    """What the target can reach.

    Args:
        origin_url: the hostile origin as the target has to name it, such as `http://127.66.0.1:8123`; empty: none.
        canary_port: a port of this machine where a listener counts connections that must never come.
    """

    origin_url: str = ""
    canary_port: int = 80


@dataclass(frozen=True)
class Sent:
    """One HTTP request; `body` in pieces is sent chunked."""

    body: bytes | Callable[[], Iterator[bytes]]
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})
    path: str = CHAT
    stops_early: bool = False  # declares a byte more than it sends, and waits


@dataclass(frozen=True)
class Case:
    """One attack.

    Args:
        request: builds what is sent, anew for each round, so that no large body is kept.
        status, code: of the documented answer; code is empty for 200.
        needs: what the target must have for it.
        is_slow: the target answers when a limit of time is over.
    """

    group: Group
    name: str
    request: Callable[[Surroundings], Sent]
    status: int
    code: str
    needs: Literal["", "fetching", "origin"] = ""
    is_slow: bool = False

    @property
    def id(self) -> str:
        return f"{self.group}: {self.name}"


def asked(image: object, **fields: object) -> Sent:
    """A question about an `image` of any kind."""
    return Sent(json.dumps({"image": image, "question": QUESTION, **SHORT, **fields}).encode())


def picture_case(name: str, build: Callable[[], bytes], code: str) -> Case:
    """A picture file, sent as base64; `code` is empty where it is harmless and must be answered."""
    status = 400 if code else 200
    return Case("pictures", name, lambda _: asked(base64.b64encode(build()).decode()), status, code)
