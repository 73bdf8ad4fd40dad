"""Answers of chat jobs in the shapes of chat completions: whole, and chunk by chunk."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from service.http.openai.stop_sequences import StopSequences, cut
from service.http.schemas.openai.chat_completions import (
    AssistantAnswer,
    ChatCompletion,
    ChatCompletionChunk,
    Choice,
    ChunkChoice,
    CompletionUsage,
    Delta,
    PromptTokensDetails,
    VisCPMDetails,
)
from service.http.schemas.openai.requests import Search
from service.http.sse import event
from service.jobs.answers import CONTENT_FILTER, ChatResponse, FinishReason, Include, Outcome, answer_of
from service.jobs.screened_stream import JobStream, Text


@dataclass(frozen=True)
class Completion:
    """What all pieces of one completion have in common.

    Attributes:
        model: as the request named it.
        job_ids: of the answers, in their order.
        tells_verdicts: the request asked for the screens' verdicts.
    """

    id: str
    created: int
    model: str
    search: Search
    seed: int
    job_ids: Sequence[str]
    stops: Sequence[str] = ()
    pictures_ignored: int = 0
    tells_verdicts: bool = False
    tells_usage: bool = False  # in a stream

    @property
    def include(self) -> tuple[Include, ...]:
        return ("moderation",) if self.tells_verdicts else ()

    def answer(self, outcome: Outcome, index: int) -> ChatResponse:
        """The answer at `index`. Raises ServiceError: what its job ended with instead."""
        answer = answer_of(outcome, self.job_ids[index], self.include)
        assert isinstance(answer, ChatResponse)
        return answer

    def whole(self, answers: Sequence[ChatResponse]) -> ChatCompletion:
        choices = []
        for index, answer in enumerate(answers):
            text, is_cut = cut(answer.answer, self.stops)
            message = AssistantAnswer(content=text)
            choices.append(Choice(index=index, message=message, finish_reason=finish_reason(answer, is_cut)))
        return ChatCompletion(
            id=self.id,
            created=answers[0].created,  # as of an answer that is told again
            model=self.model,
            choices=choices,
            usage=usage_of(answers),
            system_fingerprint=answers[0].model or None,
            viscpm=self.details(answers),
            moderation=self.verdicts(answers),
        )

    def details(self, answers: Sequence[ChatResponse]) -> VisCPMDetails:
        first = answers[0]
        return VisCPMDetails(
            search=self.search,
            seed=first.seed,
            image=first.image,
            vision_cached=all(answer.vision_cached for answer in answers),
            pictures_ignored=self.pictures_ignored,
            dropped_turns=first.dropped_turns,
            untrained=first.untrained,
            flagged=any((answer.moderation or {}).get("flagged", False) for answer in answers),
            jobs=list(self.job_ids),
        )

    def verdicts(self, answers: Sequence[ChatResponse]) -> dict[str, Any] | UnsetType:
        """Of the inputs once, of every answer; unset unless they were asked for, or an answer is refused."""
        refused = any(answer.finish_reason == CONTENT_FILTER for answer in answers)
        if not (self.tells_verdicts or refused):
            return UNSET
        judged = [answer.moderation or {} for answer in answers]
        outputs = [one["output"] for one in judged if "output" in one]
        output = None
        if outputs:
            output = {**outputs[0], "results": [result for one in outputs for result in one["results"]]}
        inputs = [one["input"] for one in judged if "input" in one]
        return {"input": inputs[0] if inputs else None, "output": output}


class _ChunkWriter:
    """Chunks of one completion, and the answers that have ended in it."""

    def __init__(self, completion: Completion, fingerprint: str) -> None:
        self.completion = completion
        self.answers: list[ChatResponse] = []
        self._fingerprint = fingerprint

    def text(self, index: int, text: str) -> bytes:
        return self.chunk([ChunkChoice(index=index, delta=Delta(content=text))])

    def chunk(self, choices: list[ChunkChoice], **more: Any) -> bytes:
        told = ChatCompletionChunk(
            id=self.completion.id,
            created=self.completion.created,
            model=self.completion.model,
            choices=choices,
            system_fingerprint=(self.answers[0].model if self.answers else self._fingerprint) or None,
            usage=None if self.completion.tells_usage else UNSET,
        )
        return event(msgspec.structs.replace(told, **more))

    async def answer(self, index: int, stream: JobStream, on_first_text: Callable[[], None]) -> AsyncIterator[bytes]:
        """The answer at `index` as it comes; at its end it is the last of `answers`."""
        yield self.chunk([ChunkChoice(index=index, delta=Delta(role="assistant", content=""))])
        stopping, sent_chars = StopSequences(self.completion.stops), 0
        async for part in stream:
            if isinstance(part, Text):
                if index == sent_chars == 0:
                    on_first_text()
                sent_chars += len(part.text)
                if text := stopping.feed(part.text):
                    yield self.text(index, text)
            elif isinstance(part, Outcome):
                self.answers.append(self.completion.answer(part, index))
        answer = self.answers[-1]
        if rest := stopping.feed(answer.answer[sent_chars:]) + stopping.finish():
            yield self.text(index, rest)
        told = ChunkChoice(index=index, delta=Delta(), finish_reason=finish_reason(answer, stopping.is_cut))
        more: dict[str, Any] = {}
        if index == len(self.completion.job_ids) - 1:
            more = {
                "viscpm": self.completion.details(self.answers),
                "moderation": self.completion.verdicts(self.answers),
            }
        yield self.chunk([told], **more)


async def chunks(
    completion: Completion, streams: Sequence[JobStream], fingerprint: str, on_first_text: Callable[[], None]
) -> AsyncIterator[bytes]:
    """The answers one after the other, each as it comes; with the last one's end what is known of all.

    Args:
        fingerprint: the name of the model that is expected to answer.
        on_first_text: called when the first text is there.
    """
    writer = _ChunkWriter(completion, fingerprint)
    try:
        for index, stream in enumerate(streams):
            async for chunk in writer.answer(index, stream, on_first_text):
                yield chunk
        if completion.tells_usage:
            yield writer.chunk([], usage=usage_of(writer.answers))
    finally:
        for stream in streams:
            stream.close()


def finish_reason(answer: ChatResponse, is_cut: bool) -> FinishReason:
    """An answer that is cut at a stop was not too long, whatever came after it."""
    return "stop" if is_cut and answer.finish_reason != CONTENT_FILTER else answer.finish_reason


def usage_of(answers: Sequence[ChatResponse]) -> CompletionUsage:
    """The talk is read once for each answer and counted once, as clients of `n` expect."""
    first = answers[0].usage
    completion_tokens = sum(answer.usage.completion_tokens for answer in answers)
    return CompletionUsage(
        prompt_tokens=first.prompt_tokens,
        completion_tokens=completion_tokens,
        total_tokens=first.prompt_tokens + completion_tokens,
        prompt_tokens_details=PromptTokensDetails(
            image_tokens=first.image_tokens, text_tokens=max(0, first.prompt_tokens - first.image_tokens)
        ),
    )
