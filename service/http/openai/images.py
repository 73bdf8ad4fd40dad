"""Answers of the paint model in OpenAI's shape: whole, and as a stream of named events."""

from collections.abc import AsyncIterator, Sequence

from service.http.schemas.openai.images import (
    COMPLETED,
    PARTIAL_IMAGE,
    CompletedImage,
    GeneratedImage,
    ImageExtension,
    ImagesResponse,
    ImageTokens,
    ImageUsage,
    PartialImage,
)
from service.http.sse import event
from service.image_output.ai_labels import AILabels, Origin
from service.jobs.answers import Include, PaintedPicture, PaintResponse, answer_of
from service.jobs.screened_stream import DenoisingStep, JobStream, Text

_PNG_SIDES = slice(16, 24)  # of its header: width and height, four bytes each


def images_response(answer: PaintResponse, urls: list[str]) -> ImagesResponse:
    """The answer of `/paint` in OpenAI's shape; with the pictures themselves where there are no addresses of them."""
    return ImagesResponse(
        created=answer.created,
        data=[GeneratedImage(url=url) for url in urls]
        or [GeneratedImage(b64_json=one.b64_json) for one in answer.data],
        size=answer.size,
        output_format=answer.output_format,
        usage=_usage(answer),
        viscpm=_extension(answer, answer.data),
    )


async def image_events(
    stream: JobStream, origin: Origin, labels: AILabels, include: Sequence[Include]
) -> AsyncIterator[bytes]:
    """Labelled previews, then each finished picture (CONVENTIONS §2), numbered as the job's own events are."""
    previews, last_id = 0, 0
    async with stream:
        async for part in stream:
            if isinstance(part, Text):
                continue
            if isinstance(part, DenoisingStep):
                last_id = part.last_event_id
                if not part.preview_png:
                    continue
                png = await labels.preview(part.preview_png, origin, previews + 1)
                partial = PartialImage(
                    b64_json=png, partial_image_index=previews, created_at=origin.created, size=_size_of(png)
                )
                yield event(partial, PARTIAL_IMAGE, str(part.preview_event_id))
                previews += 1
                continue
            answer = answer_of(part, origin.job_id, include)
            assert isinstance(answer, PaintResponse)
            for number, picture in enumerate(answer.data, start=last_id + 1):
                completed = CompletedImage(
                    b64_json=picture.b64_json,
                    created_at=answer.created,
                    size=answer.size,
                    output_format=answer.output_format,
                    usage=_usage(answer),
                    viscpm=_extension(answer, [picture]),
                )
                yield event(completed, COMPLETED, str(number))


def _usage(answer: PaintResponse) -> ImageUsage:
    usage = answer.usage
    return ImageUsage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        total_tokens=usage.total_tokens,
        input_tokens_details=ImageTokens(text_tokens=usage.input_tokens),
    )


def _extension(answer: PaintResponse, pictures: Sequence[PaintedPicture]) -> ImageExtension:
    """Of those among the answer's pictures that it stands beside."""
    return ImageExtension(
        id=answer.id,
        model=answer.model,
        seeds=[one.seed for one in pictures],
        scores=[one.score for one in pictures],
        reranker=answer.reranker,
        candidates=answer.candidates,
        unknown_words=answer.unknown_words,
        untrained=answer.untrained,
        moderation=answer.moderation,
    )


def _size_of(png: bytes) -> str:
    sides = png[_PNG_SIDES]
    return f"{int.from_bytes(sides[:4])}x{int.from_bytes(sides[4:])}"
