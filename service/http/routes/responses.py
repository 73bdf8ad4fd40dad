"""Answers as HTTP: JSON, a picture, `202`, or events."""

from collections.abc import AsyncIterator, Callable, Collection

import msgspec
from starlette.responses import Response

from models.jobs import Model
from service.http.schemas.chat import ChatDelta
from service.http.schemas.jobs import JobResponse
from service.http.sse import event
from service.image_output.ai_labels import AILabels, Origin
from service.jobs.answers import ChatResponse, Include, PaintResponse, answer_of, outcome_of
from service.jobs.intents import ChatIntent, PaintIntent, decode_intent
from service.jobs.screened_stream import DenoisingStep, JobStream, Text
from service.queue.record import JobRecord

_PARTIAL = "image_generation.partial_image"
_PROGRESS = "image_generation.progress"
_COMPLETED = "image_generation.completed"


def answered(answer: object) -> Response:
    return Response(msgspec.json.encode(answer), media_type="application/json")


def accepted(job_id: str, kind: Model, created: int, root_path: str) -> Response:
    """202: the job goes on; its answer can be asked for at `Location`, below the prefix that the client sees."""
    job = JobResponse(id=job_id, kind=kind, state="queued", created=created)
    headers = {"location": f"{root_path}/jobs/{job_id}", "preference-applied": "respond-async"}
    return Response(msgspec.json.encode(job), 202, headers, media_type="application/json")


def picture(answer: PaintResponse) -> Response:
    """The first picture itself."""
    best = answer.data[0]
    headers = {"x-job-id": answer.id, "x-seed": str(best.seed)}
    if best.score is not None:
        headers["x-score"] = f"{best.score:.6g}"
    return Response(best.b64_json, headers=headers, media_type=f"image/{answer.output_format}")


async def chat_events(
    stream: JobStream,
    begin: ChatDelta,
    after_chars: int = 0,
    include: Collection[Include] = (),
    on_first_text: Callable[[], None] | None = None,
) -> AsyncIterator[bytes]:
    """Pieces of text, then the whole answer. Event ids count characters, so that a stream can be taken up again.

    Args:
        begin: an empty piece, sent at once: it tells the ids.
        after_chars: what the client has had already.
        include: what the answer has on demand.
        on_first_text: called when the first piece of text is there.
    """
    yield event(begin, event_id=str(after_chars))
    sent_chars = 0
    async with stream:
        async for part in stream:
            if isinstance(part, DenoisingStep):
                continue
            if isinstance(part, Text):
                if sent_chars == 0 and on_first_text is not None:
                    on_first_text()
                sent_chars += len(part.text)
                if sent_chars > after_chars:
                    yield _piece(begin, part.text[max(0, after_chars - part.offset_chars) :], sent_chars)
                continue
            answer = answer_of(part, begin.id, include)
            assert isinstance(answer, ChatResponse)
            rest = answer.answer[max(sent_chars, after_chars) :]
            if rest:  # a search gives its answer as a whole
                yield _piece(begin, rest, len(answer.answer))
            yield event(answer, event_id=str(len(answer.answer)))


def _piece(begin: ChatDelta, text: str, end_chars: int) -> bytes:
    return event(msgspec.structs.replace(begin, delta=text, offset=end_chars - len(text)), event_id=str(end_chars))


async def paint_events(
    stream: JobStream, origin: Origin, labels: AILabels, include: Collection[Include] = (), after_id: int = 0
) -> AsyncIterator[bytes]:
    """Progress, labelled previews, then one event for each finished picture (CONVENTIONS §2).

    Args:
        after_id: of the last event that the client has had already.
    """
    job_id, previews, last_id = origin.job_id, 0, 0
    async with stream:
        async for part in stream:
            if isinstance(part, Text):
                continue
            if isinstance(part, DenoisingStep):
                last_id = part.last_event_id
                if part.event_id > after_id:
                    done = {"step": part.step, "total_steps": part.total_steps}
                    yield event({"type": _PROGRESS, "id": job_id, **done}, _PROGRESS, str(part.event_id))
                if part.preview_png:
                    if part.preview_event_id > after_id:
                        yield await _preview(part, previews, origin, labels)
                    previews += 1
                continue
            answer = answer_of(part, job_id, include)
            assert isinstance(answer, PaintResponse)
            common = {name: value for name, value in msgspec.structs.asdict(answer).items() if name != "data"}
            for index, painted in enumerate(answer.data):
                if last_id + 1 + index <= after_id:
                    continue
                one = {"type": _COMPLETED, "created_at": answer.created, "index": index}
                data = {**common, **one, **msgspec.structs.asdict(painted)}
                yield event(data, _COMPLETED, str(last_id + 1 + index))


async def _preview(step: DenoisingStep, index: int, origin: Origin, labels: AILabels) -> bytes:
    png = await labels.preview(step.preview_png, origin, index + 1)
    preview = {"b64_json": png, "partial_image_index": index, "output_format": "png"}
    data = {"type": _PARTIAL, "id": origin.job_id, "created_at": origin.created, **preview}
    return event(data, _PARTIAL, str(step.preview_event_id))


def begin_of(job_id: str, status: JobRecord) -> ChatDelta:
    """The stream's first event; from the intent, or from the answer of a job that has ended."""
    begin = ChatDelta(id=job_id, created=status.created_ms // 1000, model="", conversation_id="", delta="", offset=0)
    if status.ending is not None and status.ending.state == "done":
        answer = answer_of(outcome_of(status.ending, "chat"), job_id)
        assert isinstance(answer, ChatResponse)
        begin.model, begin.conversation_id = answer.model, answer.conversation_id
    elif status.intent:
        intent = decode_intent(status.intent)
        assert isinstance(intent, ChatIntent)
        begin.model, begin.conversation_id = intent.model, intent.conversation_id
    return begin


def origin_of(job_id: str, status: JobRecord) -> Origin:
    """Of the previews: the same before and after the job's end."""
    intent = decode_intent(status.intent) if status.intent else None
    if isinstance(intent, PaintIntent):
        return intent.origin(job_id)
    answer = None if status.ending is None else outcome_of(status.ending, status.kind).answer
    if answer is None:
        return Origin(job_id, status.created_ms // 1000)
    return Origin(job_id, answer.created, answer.model)  # the request's time: that of the slot may be a second before
