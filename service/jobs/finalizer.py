"""From a worker's result to the job's ending: the one way, for a waiting request, a resumed one and the sweeper alike.

What a completion needs of its request travels with the job as the intent, so that any API process can do it.
"""

from collections.abc import Sequence
from typing import Literal

import msgspec

from models.jobs import (
    ChatJob,
    ChatResult,
    Delta,
    Event,
    Generated,
    Job,
    Kind,
    PaintJob,
    PaintResult,
    Progress,
    SafetyResult,
    decode_event,
)
from safety.contents import Inputs, Passed, Result, Step, Text
from safety.language import language_of
from safety.verdict import Picture, Stage, Verdict
from service.core.errors import Cancelled, ContentRefused, Deadline, from_code
from service.image_output.ai_labels import AILabels, Origin
from service.image_output.visible_label import Language
from service.jobs.answers import (
    Answer,
    ChatResponse,
    ChatTimings,
    ChatUsage,
    FinishReason,
    PaintedPicture,
    PaintResponse,
    PaintTimings,
    PaintUsage,
    PictureFormat,
    milliseconds,
)
from service.jobs.conversations import ConversationMeta, Conversations, StoredTurn
from service.queue.record import Ending, TurnAppend


class ChatIntent(msgspec.Struct, frozen=True, omit_defaults=True, tag="chat"):
    """Of a chat request. `begun` is there with a conversation's first turn."""

    tenant: str
    created: int
    model: str
    conversation_id: str
    question: str
    seed: int
    begun: ConversationMeta | None = None
    untrained: bool = False
    moderation: dict[str, object] = {}  # of the inputs; empty: nothing was judged


class PaintIntent(msgspec.Struct, frozen=True, omit_defaults=True, tag="paint"):
    """Of a paint request. `quality` is of jpeg and webp."""

    tenant: str
    created: int
    model: str
    n: int
    output_format: PictureFormat
    quality: int
    seed: int
    untrained: bool = False
    fingerprint: str = ""  # of the model's weights
    request_id: str = ""
    language: Language = "zh"  # of the prompt
    moderation: dict[str, object] = {}  # of the inputs; empty: nothing was judged

    def origin(self, job_id: str) -> Origin:
        return Origin(job_id, self.created, self.model, self.fingerprint, self.request_id, self.language)


class SafetyIntent(msgspec.Struct, frozen=True, tag="safety"):
    """Of a screening: nothing follows from it but the verdict that somebody waits for."""


Intent = ChatIntent | PaintIntent | SafetyIntent

CONTENT_FILTER: Literal["content_filter"] = "content_filter"  # code of a refused answer: 200, not an error


def encode_intent(intent: Intent) -> bytes:
    return _encoder.encode(intent)


def decode_intent(data: bytes) -> Intent:
    return _intent_decoder.decode(data)


def answer_of(ending: Ending, kind: Kind, job_id: str) -> Answer:
    """The answer of an ended job.

    Raises ServiceError: what it ended with instead of one.
    """
    if ending.state == "done" or ending.code == CONTENT_FILTER:
        return _chat_decoder.decode(ending.body) if kind == "chat" else _paint_decoder.decode(ending.body)
    if ending.state == "refused":
        moderation = _dict_decoder.decode(ending.body) if ending.body else {}
        raise ContentRefused(ending.message, extra={"moderation": moderation})
    if ending.state == "cancelled" and ending.code != Deadline.code:
        raise Cancelled(f"job {job_id} was cancelled ({ending.code})")
    raise from_code(ending.code, ending.message, job_id)


class Completion:
    """What the gate asks about jobs and results (safety.contents.Contents)."""

    def __init__(self, conversations: Conversations, labels: AILabels) -> None:
        self._conversations = conversations
        self._labels = labels

    def inputs(self, job: Job) -> Inputs:
        if isinstance(job, ChatJob):
            side_px = job.image_size_px
            picture = Picture(job.pixels, "rgb", side_px, side_px) if job.pixels else None
            return Inputs([("question", job.question)], picture)
        assert isinstance(job, PaintJob)
        texts: list[tuple[Stage, str]] = [("prompt", job.prompt)]
        if job.negative_prompt:
            texts.append(("negative_prompt", job.negative_prompt))
        return Inputs(texts)

    def part(self, event: Event | Ending) -> Text | Step | Result | None:
        if isinstance(event, Delta):
            return Text(event.text, event.offset_chars)
        if isinstance(event, Progress):
            return Step(event.step, event.total_steps, event.preview_png)
        if isinstance(event, Generated):
            result = event.result
            if isinstance(result, SafetyResult):  # left by an API process that died
                return Result(result)
            if isinstance(result, ChatResult):
                return Result(result, answer=result.answer)
            return Result(result, candidates=tuple(candidate.png for candidate in result.candidates))
        return None

    def decode(self, generated: bytes) -> Event:
        return decode_event(generated)

    def screened(self, intent: bytes, verdicts: Sequence[Verdict]) -> bytes:
        decoded = decode_intent(intent)
        return encode_intent(msgspec.structs.replace(decoded, moderation=moderation_of(verdicts)))

    def language(self, intent: bytes) -> str:
        decoded = decode_intent(intent)
        if isinstance(decoded, ChatIntent):
            return language_of(decoded.question)
        return decoded.language if isinstance(decoded, PaintIntent) else ""

    def wanted(self, intent: bytes) -> int:
        decoded = decode_intent(intent)
        return decoded.n if isinstance(decoded, PaintIntent) else 1

    async def ending(self, job_id: str, intent: bytes, passed: Passed) -> tuple[Ending, TurnAppend | None]:
        decoded = decode_intent(intent)
        if isinstance(decoded, ChatIntent):
            return self._chat(job_id, decoded, passed)
        if isinstance(decoded, SafetyIntent):
            return Ending("done"), None
        return await self._paint(job_id, decoded, passed), None

    def refusal(self, verdict: Verdict) -> Ending:
        message = verdict.message or f"the {verdict.stage.replace('_', ' ')} is not allowed here"
        body = _encoder.encode({"input": moderation_of([verdict])})
        return Ending("refused", "content_policy_violation", message, body)

    def failure(self, code: str, message: str) -> Ending:
        return Ending("failed", code, message)

    def _chat(self, job_id: str, intent: ChatIntent, passed: Passed) -> tuple[Ending, TurnAppend | None]:
        result = passed.result.generated if passed.result is not None else None
        assert result is None or isinstance(result, ChatResult)
        if passed.blocked is not None:
            answer = _chat_answer(job_id, intent, result, passed.sent, CONTENT_FILTER)
            answer.moderation = _moderation(intent, passed)
            return Ending("refused", CONTENT_FILTER, passed.blocked.message, _encoder.encode(answer)), None
        assert result is not None
        answer = _chat_answer(job_id, intent, result, result.answer, result.finish_reason)
        answer.moderation = _moderation(intent, passed)
        turn = StoredTurn(intent.question, result.answer, result.answer_escaped, intent.created, result.finish_reason)
        append = self._conversations.append(intent.tenant, intent.conversation_id, turn, intent.begun)
        return Ending("done", body=_encoder.encode(answer)), append

    async def _paint(self, job_id: str, intent: PaintIntent, passed: Passed) -> Ending:
        if passed.blocked is not None:
            message = passed.blocked.message or "no painted candidate may be shown"
            body = _encoder.encode(_moderation(intent, passed))
            return Ending("refused", "content_policy_violation", message, body)
        assert passed.result is not None
        result = passed.result.generated
        assert isinstance(result, PaintResult)
        origin, pictures = intent.origin(job_id), []
        for number, index in enumerate(passed.chosen, start=1):
            candidate = result.candidates[index]
            data = await self._labels.picture(candidate.png, origin, number, intent.output_format, intent.quality)
            pictures.append(PaintedPicture(b64_json=data, seed=candidate.seed, score=candidate.score))
        answer = PaintResponse(
            id=job_id,
            created=intent.created,
            model=intent.model,
            data=pictures,
            size=f"{result.width_px}x{result.height_px}",
            output_format=intent.output_format,
            usage=PaintUsage(input_tokens=result.prompt_tokens, output_tokens=0, total_tokens=result.prompt_tokens),
            reranker=result.reranker,
            candidates=len(result.candidates),
            seed=intent.seed,
            untrained=intent.untrained,
            timings=PaintTimings(denoise_ms=milliseconds(result.denoise_s), decode_ms=milliseconds(result.decode_s)),
            moderation=_moderation(intent, passed),
        )
        return Ending("done", body=_encoder.encode(answer))


def _chat_answer(
    job_id: str, intent: ChatIntent, result: ChatResult | None, answer: str, finish_reason: FinishReason
) -> ChatResponse:
    """`result` is None for an answer that was blocked while it streamed."""
    prompt_tokens = 0 if result is None else result.prompt_tokens
    completion_tokens = 0 if result is None else result.completion_tokens
    return ChatResponse(
        id=job_id,
        created=intent.created,
        model=intent.model,
        conversation_id=intent.conversation_id,
        answer=answer,
        finish_reason=finish_reason,
        usage=ChatUsage(
            prompt_tokens=prompt_tokens,
            image_tokens=0 if result is None else result.image_tokens,
            completion_tokens=completion_tokens,
            total_tokens=prompt_tokens + completion_tokens,
        ),
        seed=intent.seed,
        dropped_turns=0 if result is None else result.dropped_turns,
        vision_cached=result is not None and result.vision_cached,
        untrained=intent.untrained,
        timings=None
        if result is None
        else ChatTimings(prefill_ms=milliseconds(result.prefill_s), decode_ms=milliseconds(result.decode_s)),
    )


def moderation_of(verdicts: Sequence[Verdict]) -> dict[str, object]:
    """Verdicts as the API tells them (CONVENTIONS §1)."""
    models = dict.fromkeys(model for verdict in verdicts for model in verdict.model.split("+"))
    return {
        "type": "moderation_results",
        "model": "+".join(models),
        "results": [verdict.moderation() for verdict in verdicts],
    }


def _moderation(intent: ChatIntent | PaintIntent, passed: Passed) -> dict[str, object] | None:
    """Of inputs and output; None where nothing was judged."""
    told: dict[str, object] = {}
    if intent.moderation:
        told["input"] = intent.moderation
    if passed.verdicts:
        told["output"] = moderation_of(passed.verdicts)
    return told or None


_encoder = msgspec.msgpack.Encoder()
_intent_decoder: msgspec.msgpack.Decoder[Intent] = msgspec.msgpack.Decoder(ChatIntent | PaintIntent | SafetyIntent)
_chat_decoder = msgspec.msgpack.Decoder(ChatResponse)
_paint_decoder = msgspec.msgpack.Decoder(PaintResponse)
_dict_decoder = msgspec.msgpack.Decoder(dict[str, object])
