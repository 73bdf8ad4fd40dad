"""What a request for an answer is told: the whole of it, a stream, or where it will be."""

from starlette.requests import Request
from starlette.responses import Response

from service.http.admission import Slot, wants_async
from service.http.dependencies import ApiState, job_of
from service.http.routes.responses import accepted, answered, begin_of, chat_events
from service.http.schemas.chat import AnswerRequest, ChatDelta
from service.http.sse import EventStream
from service.jobs.answers import answer_of, outcome_of
from service.jobs.intents import ChatIntent
from service.jobs.screened_stream import JobStream


async def tell_answer(
    request: Request,
    state: ApiState,
    slot: Slot,
    asked: AnswerRequest,
    stream: JobStream,
    intent: ChatIntent,
    began_s: float,
) -> Response:
    """Of a job that was queued just now. `began_s`: when the request came, of the event loop's clock.

    Raises ServiceError: what the job ended with, where the answer is waited for.
    """
    if wants_async(request):
        state.finish_in_background(stream, slot.job_id)
        return accepted(slot.job_id, "chat", intent.created, request.scope["root_path"])
    if not asked.stream:
        async with stream:
            return answered(answer_of(await stream.outcome(), slot.job_id, asked.include))
    begin = ChatDelta(
        id=slot.job_id,
        created=intent.created,
        model=intent.model,
        conversation_id=intent.conversation_id,
        delta="",
        offset=0,
    )
    on_first_text = state.first_text_timer(began_s)
    return EventStream(chat_events(stream, begin, include=asked.include, on_first_text=on_first_text), slot.cancel)


async def tell_earlier(request: Request, state: ApiState, job_id: str, asked: AnswerRequest) -> Response:
    """What the earlier request with the same Idempotency-Key was answered, or is."""
    record = await job_of(request, job_id)
    if wants_async(request):
        return accepted(job_id, "chat", record.created_ms // 1000, request.scope["root_path"])
    if asked.stream:
        begin = begin_of(job_id, record)
        return EventStream(chat_events(state.queue.follow("chat", job_id), begin, include=asked.include))
    assert record.ending is not None, "a key whose job runs is no answer's"
    return answered(answer_of(outcome_of(record.ending, "chat"), job_id, asked.include))
