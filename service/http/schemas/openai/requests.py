"""What requests in OpenAI's shapes have in common: fields that are taken without an effect, and how answers are found.

Three kinds of field (docs/guides/openai.md): what a class declares is honoured; `model_extra` holds what is taken and
has no effect; of that, `require_possible` refuses values that ask for what cannot be given.
"""

from collections.abc import Callable, Iterable
from typing import ClassVar, Literal, Self

import msgspec
from pydantic import ConfigDict, Field, model_validator

from models.jobs import ChatGeneration
from service.core.errors import InvalidRequest
from service.http.schemas.chat import MAX_NEW_TOKENS
from service.http.schemas.requests import MAX_SEED, OpenRequest, Request, shown

MIN_NEW_TOKENS = 2  # one, and the final eos
MAX_MODEL_CHARS = 128

Search = Literal["beam", "sample", "greedy"]

# What would have to be done for a value, None where it asks for nothing
Refusal = Callable[[object], str | None]


class TolerantPart(Request):
    """Base of what stands within a request: unknown fields are passed over."""

    model_config = ConfigDict(extra="ignore")


class TolerantRequest(OpenRequest):
    """Base of request bodies that name a model."""

    max_texts: ClassVar[int] = 64  # of a talk: bounds what is looked at before it is validated
    refusals: ClassVar[dict[str, Refusal]] = {}

    model: str = Field(min_length=1, max_length=MAX_MODEL_CHARS, description="A name that GET /v1/models lists.")

    def require_possible(self) -> None:
        """Raises InvalidRequest naming a field whose value asks for what cannot be given."""
        extra = self.model_extra or {}
        for name, refusal in self.refusals.items():
            if name in extra and (why := refusal(extra[name])) is not None:
                raise InvalidRequest(f"{name}: {why}{shown(extra[name])}", param=name)


class GenerationRequest(TolerantRequest):
    """How an answer is searched for, where OpenAI's fields and ours meet."""

    temperature: float | None = Field(None, ge=0, le=10, description="Samples; 0 is greedy.")
    top_p: float | None = Field(None, ge=0, le=1, description="Samples; 0 is greedy.")
    top_k: int = Field(ChatGeneration().top_k, ge=-1, le=100_000, description="Of sampling. 0 or -1: off.")
    seed: int | None = Field(None, ge=-MAX_SEED, le=MAX_SEED, description="Absent: drawn, and told in the answer.")
    num_beams: int | None = Field(None, ge=1, le=8, description="1 is greedy, more is beam search.")
    use_beam_search: bool | None = Field(None, description="Beam search whatever `temperature` says.")
    length_penalty: float = Field(ChatGeneration().length_penalty, ge=-10, le=10, description="Of beam search.")
    repetition_penalty: float = Field(ChatGeneration().repetition_penalty, ge=0.1, le=10)

    @model_validator(mode="after")
    def _check_search(self) -> Self:
        if self.use_beam_search is False and (self.num_beams or 0) > 1:
            raise ValueError(f"use_beam_search is false and num_beams is {self.num_beams}: leave one of them out")
        if self.use_beam_search and self.num_beams == 1:
            raise ValueError("use_beam_search goes with num_beams 2 to 8, got 1")
        return self

    @property
    def search(self) -> Search:
        """Beams where they are named, sampling where it is, else as /chat."""
        if self.use_beam_search or (self.num_beams or 0) > 1:
            return "beam"
        if self.temperature is not None or self.top_p is not None:
            return "greedy" if self.temperature == 0 or self.top_p == 0 else "sample"
        return "greedy" if self.use_beam_search is False or self.num_beams == 1 else "beam"

    def generation(self, max_tokens: int | None) -> ChatGeneration:
        """With at most `max_tokens`, the final eos included, clamped to what is possible; None: the usual number."""
        found = ChatGeneration(repetition_penalty=self.repetition_penalty, length_penalty=self.length_penalty)
        if max_tokens is not None:
            clamped = min(max(max_tokens, MIN_NEW_TOKENS), MAX_NEW_TOKENS)
            found = msgspec.structs.replace(found, max_new_tokens=clamped)
        if self.search == "beam":
            return msgspec.structs.replace(found, num_beams=self.num_beams or found.num_beams)
        if self.search == "greedy":
            return msgspec.structs.replace(found, num_beams=1)
        return msgspec.structs.replace(
            found,
            num_beams=1,
            do_sample=True,
            temperature=found.temperature if self.temperature is None else self.temperature,
            top_p=found.top_p if self.top_p is None else self.top_p,
            top_k=max(0, self.top_k),
        )

    def ignored(self) -> list[str]:
        """With those that play no part in the search that is done."""
        unused = {
            "beam": ("temperature", "top_p", "top_k"),
            "greedy": ("top_k", "length_penalty"),
            "sample": ("length_penalty",),
        }[self.search]
        return [*super().ignored(), *(name for name in unused if name in self.model_fields_set)]


def must_be(*allowed: object) -> Refusal:
    """Refuses every other value."""
    told = " or ".join(str(one) for one in allowed)

    def refusal(value: object) -> str | None:
        return None if value in allowed else f"must be {told} here"

    return refusal


def no_tool_choice(value: object) -> str | None:
    return None if value in ("auto", "none") else "must be auto or none: the model calls no tools"


def texts_alone(value: object) -> str | None:
    if isinstance(value, Iterable) and set(map(str, value)) <= {"text"}:
        return None
    return "must be [text]: the model answers in text alone"


def no_audio(value: object) -> str | None:
    return "cannot be given: the model answers in text alone"
