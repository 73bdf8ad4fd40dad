"""POST /v1/chat/completions: a talk that the client keeps, gone on with (docs/guides/openai.md)."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from fastapi import APIRouter, Request
from starlette.responses import Response

from service.core.errors import ServiceError
from service.http.access.idempotency import KeyClaim, claim_key
from service.http.admission import Slot, admitted
from service.http.bodies import read_json
from service.http.dependencies import ApiState, job_of, request_id_of, state_of, tenant_of
from service.http.middleware import release_body
from service.http.openai.completion import Completion, chunks
from service.http.openai.ignored_parameters import tell_ignored
from service.http.openai.talk import Talk, read_picture, read_talk
from service.http.openapi import documented
from service.http.routes.chat_jobs import Asked, ChatContext, seed_or_drawn, submit_question
from service.http.routes.responses import answered
from service.http.schemas.bodies import CHAT_COMPLETION_BODY
from service.http.schemas.openai.chat_completions import ChatCompletion, ChatCompletionRequest
from service.http.schemas.openai.messages import told
from service.http.sse import EventStream
from service.image_input.recent_pixels import InputPixels
from service.jobs.answers import Outcome, outcome_of
from service.jobs.conversations import unix_time_s
from service.jobs.screened_stream import JobStream

router = APIRouter(tags=["openai"])


@router.post(
    "/v1/chat/completions",
    summary="Go on with a talk",
    **documented(
        ChatCompletion,
        body=CHAT_COMPLETION_BODY,
        stream=True,
        makes_job=True,
        idempotent=True,
        statuses=(404,),
        access="chat",
    ),
)
async def create_chat_completion(request: Request) -> Response:
    """Answers the question with which the talk ends, in OpenAI's shape. Nothing of the talk is kept.

    With `stream` the answer comes as server-sent events of `data:` lines alone, then `[DONE]`.
    """
    began_s = asyncio.get_running_loop().time()
    state, tenant = state_of(request), tenant_of(request)
    state.refuse_while_draining()
    asked = await read_json(request, ChatCompletionRequest, state.settings)
    asked.require_possible()
    state.aliases.require(asked.model, "chat")
    talk = read_talk(told(asked.messages), state.settings)
    ignored = asked.ignored()
    model = await state.registry.find("chat")
    claim = await claim_key(request, state, "chat", tenant, asked, num_answers=asked.n)
    if claim is not None and claim.is_earlier:
        return tell_ignored(
            await _of_earlier(request, state, claim.job_ids, asked, talk, began_s), ignored, state.metrics
        )
    async with _slots(request, state, tenant, asked.n, claim, is_heavy=talk.picture is not None) as slots:
        pixels = await read_picture(state.images, talk, model.image_size_px)
        asked.messages = []  # what was uploaded is not kept while the jobs run
        (asked.model_extra or {}).clear()
        release_body(request.scope)
        completion = _completion(asked, talk, [slot.job_id for slot in slots])
        context = ChatContext(tenant, request_id_of(request), model)
        streams = await _submit(state, slots, context, asked, talk, completion, pixels)
        if not asked.stream:
            outcomes = await _outcomes(streams)
            answers = [completion.answer(outcome, index) for index, outcome in enumerate(outcomes)]
            return tell_ignored(answered(completion.whole(answers)), ignored, state.metrics)

    async def leave() -> None:
        for slot in slots:
            await slot.cancel()

    events = chunks(completion, streams, model.name, state.first_text_timer(began_s))
    response = EventStream(_ending_together(state, slots, events), leave)
    return tell_ignored(response, ignored, state.metrics)


async def _of_earlier(
    request: Request,
    state: ApiState,
    job_ids: Sequence[str],
    asked: ChatCompletionRequest,
    talk: Talk,
    began_s: float,
) -> Response:
    """What the earlier request with the same Idempotency-Key was answered."""
    records = [await job_of(request, job_id) for job_id in job_ids]
    completion = _completion(asked, talk, job_ids)
    if asked.stream:
        streams = [state.queue.follow("chat", job_id) for job_id in job_ids]
        return EventStream(chunks(completion, streams, "", state.first_text_timer(began_s)))
    answers = []
    for index, record in enumerate(records):
        assert record.ending is not None, "a key whose jobs run is no answer's"
        answers.append(completion.answer(outcome_of(record.ending, "chat"), index))
    return answered(completion.whole(answers))


@asynccontextmanager
async def _slots(
    request: Request, state: ApiState, tenant: str, count: int, claim: KeyClaim | None, is_heavy: bool
) -> AsyncIterator[list[Slot]]:
    """A slot for each answer. Where one cannot be queued or answered, none of the others goes on for nobody."""
    async with AsyncExitStack() as stack:
        slots = [
            await stack.enter_async_context(admitted(request, state, "chat", tenant, claim, index=index))
            for index in range(count)
        ]
        if is_heavy or count > 1:
            for slot in slots:
                await slot.granted()
        try:
            yield slots
        except Exception:
            await _end(state, slots)
            raise


async def _ending_together(
    state: ApiState, slots: Sequence[Slot], events: AsyncIterator[bytes]
) -> AsyncIterator[bytes]:
    try:
        async for event in events:
            yield event
    except Exception:
        await _end(state, slots)
        raise


async def _end(state: ApiState, slots: Sequence[Slot]) -> None:
    """Of several answers one has failed."""
    for slot in slots:
        if slot.is_queued and len(slots) > 1:
            with suppress(ServiceError):  # where Redis is away, their deadline ends them
                await state.queue.cancel(slot.job_id, "another_failed")


def _completion(asked: ChatCompletionRequest, talk: Talk, job_ids: Sequence[str]) -> Completion:
    return Completion(
        id=f"chatcmpl-{job_ids[0].removeprefix('chat-')}",
        created=unix_time_s(),
        model=asked.model,
        search=asked.search,
        seed=seed_or_drawn(asked.seed),
        job_ids=job_ids,
        stops=asked.stops(),
        pictures_ignored=talk.pictures_ignored,
        tells_verdicts=asked.moderation is not None,
        tells_usage=asked.stream_options.include_usage,
    )


async def _submit(
    state: ApiState,
    slots: Sequence[Slot],
    context: ChatContext,
    asked: ChatCompletionRequest,
    talk: Talk,
    completion: Completion,
    pixels: InputPixels | None,
) -> list[JobStream]:
    """What comes of each answer's job."""
    streams: list[JobStream] = []
    try:
        for index, slot in enumerate(slots):
            question = Asked(
                question=talk.question,
                generation=asked.generation_of_all(),
                seed=seed_or_drawn(completion.seed, index),
                is_kept=False,
                brought=talk.turns,
                gone_turns=talk.gone_turns,
                stream=asked.stream,
                stops=completion.stops,
                param="messages",
            )
            stream, _ = await submit_question(state, slot, context, question, pixels)
            streams.append(stream)
    except BaseException:
        for stream in streams:
            stream.close()
        raise
    return streams


async def _outcomes(streams: Sequence[JobStream]) -> list[Outcome]:
    """Of all jobs, in their order; they run at the same time, whichever is waited for."""
    async with AsyncExitStack() as stack:
        for stream in streams:
            stack.callback(stream.close)
        return [await stream.outcome() for stream in streams]
