"""From a job's result and what the gate let pass of it to the answer: usage, timings, labels on pictures, verdicts."""

from collections.abc import Sequence

from models.jobs import ChatResult, PaintResult
from safety.verdict import Verdict
from service.image_output.ai_labels import AILabels
from service.jobs.answers import (
    ChatResponse,
    ChatTimings,
    ChatUsage,
    FinishReason,
    PaintedPicture,
    PaintResponse,
    PaintTimings,
    PaintUsage,
    milliseconds,
)
from service.jobs.intents import ChatIntent, PaintIntent, moderation_of


def chat_answer(
    job_id: str,
    intent: ChatIntent,
    result: ChatResult | None,
    answer: str,
    finish_reason: FinishReason,
    verdicts: Sequence[Verdict],
) -> ChatResponse:
    """`answer` is the result's, or of a blocked one what had been sent of it; that one may have no result yet."""
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
        dropped_turns=intent.gone_turns + (0 if result is None else result.dropped_turns),
        image=intent.has_image,
        vision_cached=result is not None and result.vision_cached,
        untrained=intent.untrained,
        timings=None
        if result is None
        else ChatTimings(prefill_ms=milliseconds(result.prefill_s), decode_ms=milliseconds(result.decode_s)),
        moderation=moderation(intent, verdicts),
    )


async def paint_answer(
    job_id: str,
    intent: PaintIntent,
    result: PaintResult,
    chosen: Sequence[int],
    labels: AILabels,
    verdicts: Sequence[Verdict],
) -> PaintResponse:
    """The chosen candidates, labelled and in the format asked for."""
    origin, pictures = intent.origin(job_id), []
    for number, index in enumerate(chosen, start=1):
        candidate = result.candidates[index]
        data = await labels.picture(candidate.png, origin, number, intent.output_format, intent.quality)
        pictures.append(PaintedPicture(b64_json=data, seed=candidate.seed, score=candidate.score))
    return PaintResponse(
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
        unknown_words=result.unknown_words,
        untrained=intent.untrained,
        timings=PaintTimings(denoise_ms=milliseconds(result.denoise_s), decode_ms=milliseconds(result.decode_s)),
        moderation=moderation(intent, verdicts),
    )


def moderation(intent: ChatIntent | PaintIntent, verdicts: Sequence[Verdict]) -> dict[str, object] | None:
    """Of inputs and output; None where nothing was judged."""
    told: dict[str, object] = {}
    if intent.moderation:
        told["input"] = intent.moderation
    if verdicts:
        told["output"] = moderation_of(verdicts)
    return told or None
