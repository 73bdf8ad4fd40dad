"""Answers of chat jobs as responses: whole, and as the typed events of a streamed one."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from service.http.openai.completion import Completion
from service.http.schemas.openai.requests import Search
from service.http.schemas.openai.responses import (
    IncompleteDetails,
    InputTokensDetails,
    OutputMessage,
    OutputText,
    OutputTokensDetails,
    ResponseObject,
    ResponseUsage,
)
from service.http.sse import event
from service.jobs.answers import CONTENT_FILTER, ChatResponse, Outcome
from service.jobs.screened_stream import JobStream, Text


@dataclass(frozen=True)
class PendingResponse:
    """One response: what is known of it before its answer is.

    Attributes:
        begun: as it is told first, in progress and without output.
        conversation_id: that keeps it; empty: nothing does.
    """

    begun: ResponseObject
    completion: Completion
    conversation_id: str

    @property
    def message_id(self) -> str:
        return "msg_" + self.begun.id.removeprefix("resp_")

    def whole(self, outcome: Outcome) -> ResponseObject:
        """Raises ServiceError: what the job ended with instead of an answer."""
        return self.with_answer(self.completion.answer(outcome, 0))

    def with_answer(self, answer: ChatResponse) -> ResponseObject:
        """Of an answer as `answer_of` tells it."""
        is_whole = answer.finish_reason == "stop"
        details = self.completion.details([answer])
        if self.conversation_id and answer.finish_reason != CONTENT_FILTER:
            details.conversation_id = self.conversation_id
        status: Literal["completed", "incomplete"] = "completed" if is_whole else "incomplete"
        return msgspec.structs.replace(
            self.begun,
            status=status,
            output=[OutputMessage(id=self.message_id, status=status, content=[OutputText(text=answer.answer)])],
            incomplete_details=None if is_whole else _incomplete(answer),
            usage=_usage(answer),
            viscpm=details,
        )


class _Told(msgspec.Struct, kw_only=True):
    """A pending response as it is kept: all that its answer does not say."""

    begun: ResponseObject
    search: Search
    seed: int
    job_id: str
    pictures_ignored: int
    conversation_id: str


def encode_pending(response: PendingResponse) -> bytes:
    completion = response.completion
    told = _Told(
        begun=response.begun,
        search=completion.search,
        seed=completion.seed,
        job_id=completion.job_ids[0],
        pictures_ignored=completion.pictures_ignored,
        conversation_id=response.conversation_id,
    )
    return _encoder.encode(told)


def decode_pending(data: bytes) -> PendingResponse:
    told = _decoder.decode(data)
    begun = told.begun
    completion = Completion(
        id=begun.id,
        created=begun.created_at,
        model=begun.model,
        search=told.search,
        seed=told.seed,
        job_ids=[told.job_id],
        pictures_ignored=told.pictures_ignored,
    )
    return PendingResponse(begun, completion, told.conversation_id)


async def response_events(
    response: PendingResponse, stream: JobStream, on_first_text: Callable[[], None]
) -> AsyncIterator[bytes]:
    """Typed events, numbered; the last one has the whole response.

    Args:
        on_first_text: called when the first text is there.
    """
    number = 0
    item: dict[str, Any] = {"item_id": response.message_id, "output_index": 0}
    place = {**item, "content_index": 0}

    def typed(name: str, **fields: Any) -> bytes:
        nonlocal number
        number += 1
        return event({"type": name, "sequence_number": number - 1, **fields}, name)

    message = OutputMessage(id=response.message_id, status="in_progress", content=[])
    yield typed("response.created", response=response.begun)
    yield typed("response.in_progress", response=response.begun)
    yield typed("response.output_item.added", output_index=0, item=message)
    yield typed("response.content_part.added", **place, part=OutputText(text=""))
    sent_chars = 0
    async with stream:
        async for part in stream:
            if isinstance(part, Text):
                if sent_chars == 0:
                    on_first_text()
                sent_chars += len(part.text)
                yield typed("response.output_text.delta", **place, delta=part.text, logprobs=[])
            elif isinstance(part, Outcome):
                whole = response.whole(part)
    [done] = whole.output
    [text] = done.content
    if rest := text.text[sent_chars:]:  # of an answer that came without pieces
        yield typed("response.output_text.delta", **place, delta=rest, logprobs=[])
    yield typed("response.output_text.done", **place, text=text.text, logprobs=[])
    yield typed("response.content_part.done", **place, part=text)
    yield typed("response.output_item.done", output_index=0, item=done)
    yield typed(f"response.{whole.status}", response=whole)


def _incomplete(answer: ChatResponse) -> IncompleteDetails:
    is_refused = answer.finish_reason == CONTENT_FILTER
    return IncompleteDetails(reason="content_filter" if is_refused else "max_output_tokens")


def _usage(answer: ChatResponse) -> ResponseUsage:
    usage = answer.usage
    return ResponseUsage(
        input_tokens=usage.prompt_tokens,
        output_tokens=usage.completion_tokens,
        total_tokens=usage.total_tokens,
        input_tokens_details=InputTokensDetails(image_tokens=usage.image_tokens),
        output_tokens_details=OutputTokensDetails(),
    )


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Told)
