"""POST /v1/responses: a question, of a response before it or by itself; kept as a conversation.

docs/guides/openai.md tells what of its fields has an effect.
"""

import asyncio
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from models.jobs import ModelDescription
from service.core.errors import InvalidRequest, NotFound, ResponseNotFound
from service.http.access.idempotency import claim_key
from service.http.admission import admitted
from service.http.bodies import read_json
from service.http.dependencies import ApiState, job_of, request_id_of, state_of, tenant_of
from service.http.middleware import release_body
from service.http.openai.completion import Completion
from service.http.openai.ignored_parameters import tell_ignored
from service.http.openai.response_events import PendingResponse, decode_pending, encode_pending, response_events
from service.http.openai.talk import Talk, read_picture, read_talk
from service.http.openapi import documented
from service.http.routes.chat_jobs import Asked, ChatContext, seed_or_drawn, submit_question
from service.http.routes.responses import answered
from service.http.schemas.bodies import RESPONSE_BODY
from service.http.schemas.openai.responses import (
    MAX_RESPONSE_ID_CHARS,
    DeletedResponse,
    KeptResponse,
    ResponseObject,
    ResponseRequest,
    kept_response,
    no_response,
)
from service.http.schemas.openai.responses import (
    response_id as id_of,
)
from service.http.sse import EventStream
from service.image_input.recent_pixels import InputPixels
from service.jobs.answers import answer_of, decode_summary, outcome_of
from service.jobs.conversations import new_conversation_id, unix_time_s
from service.queue.conversation_record import Conversation, StoredTurn

router = APIRouter(tags=["openai"])

ResponseId = Annotated[str, Path(max_length=MAX_RESPONSE_ID_CHARS)]


@router.post(
    "/v1/responses",
    summary="Respond to an input",
    **documented(
        ResponseObject,
        body=RESPONSE_BODY,
        stream=True,
        makes_job=True,
        idempotent=True,
        statuses=(404, 409),
        access="chat",
    ),
)
async def create_response(request: Request) -> Response:
    """Answers the input, in the shape of OpenAI's responses; with `stream` as typed events, then `[DONE]`.

    Unless `store` is false the turn is kept in a conversation, and `previous_response_id` goes on with it from there.
    """
    began_s = asyncio.get_running_loop().time()
    state, tenant = state_of(request), tenant_of(request)
    state.refuse_while_draining()
    asked = await read_json(request, ResponseRequest, state.settings)
    asked.require_possible()
    state.aliases.require(asked.model, "chat")
    talk = read_talk(asked.told(), state.settings)
    ignored = asked.ignored()
    model = await state.registry.find("chat")
    claim = await claim_key(request, state, "chat", tenant, asked)
    if claim is not None and claim.is_earlier:
        earlier = await _of_earlier(request, state, claim.job_id, asked.stream, began_s)
        return tell_ignored(earlier, ignored, state.metrics)
    async with admitted(request, state, "chat", tenant, claim) as slot:
        await slot.granted()
        pixels = await read_picture(state.images, talk, model.image_size_px)
        asked.input = ""  # what was uploaded is not kept while the job runs
        (asked.model_extra or {}).clear()
        release_body(request.scope)
        question, pixels, turn = await _placed(state, tenant, asked, talk, pixels, model)
        response = _response(asked, talk.pictures_ignored, question, turn, slot.job_id)
        question = replace(question, begins=response.conversation_id, told=encode_pending(response))
        context = ChatContext(tenant, request_id_of(request), model)
        stream, _ = await submit_question(state, slot, context, question, pixels)
        if not asked.stream:
            async with stream:
                whole = response.whole(await stream.outcome())
            return tell_ignored(answered(whole), ignored, state.metrics)
    events = response_events(response, stream, state.first_text_timer(began_s))
    return tell_ignored(EventStream(events, slot.cancel), ignored, state.metrics)


@router.get(
    "/v1/responses/{response_id}",
    summary="A response",
    **documented(ResponseObject, statuses=(404, 503), access="chat"),
)
async def get_response(
    request: Request,
    response_id: ResponseId,
    stream: Annotated[
        bool,
        Query(description="An ended response is told as a whole.", json_schema_extra={"enum": [False]}),
    ] = False,
) -> Response:
    """As it was told when it ended, as long as its conversation is kept."""
    if stream:
        raise InvalidRequest("stream: must be false, got true: a response that has ended is told as a whole",
                             param="stream")  # fmt: skip
    _, turn = await _stored(state_of(request), tenant_of(request), response_id)
    return answered(decode_pending(turn.told).with_answer(decode_summary(turn.answered, turn.answer)))


@router.delete(
    "/v1/responses/{response_id}",
    summary="Forget a response",
    **documented(DeletedResponse, statuses=(404, 409, 503), access="chat"),
)
async def delete_response(request: Request, response_id: ResponseId) -> Response:
    """Its question and answer are gone at once; with the last one of a conversation that is, its picture too."""
    state, tenant = state_of(request), tenant_of(request)
    kept, turn = await _stored(state, tenant, response_id)
    job_id = decode_pending(turn.told).completion.job_ids[0]
    try:
        await state.conversations.forget_turn(tenant, kept.conversation_id, kept.turn, job_id)
    except NotFound:
        raise _not_found(response_id) from None
    return answered(DeletedResponse(id=response_id))


async def _stored(state: ApiState, tenant: str, identifier: str) -> tuple[KeptResponse, StoredTurn]:
    """Where a response is kept. Raises ResponseNotFound, also for a turn that was answered in another way since."""
    try:
        kept = kept_response(identifier)
        turn = (await state.conversations.get(tenant, kept.conversation_id)).turn(kept.turn)
    except NotFound:
        turn = None
    if turn is None or not turn.told or decode_pending(turn.told).begun.id != identifier:
        raise _not_found(identifier)
    return kept, turn


def _not_found(identifier: str) -> ResponseNotFound:
    return ResponseNotFound(
        f"no response {identifier[:80]!r} is kept: it never was, has not ended, was not stored, or was deleted",
        param="response_id",
    )


async def _of_earlier(request: Request, state: ApiState, job_id: str, stream: bool, began_s: float) -> Response:
    """What the earlier request with the same Idempotency-Key was answered."""
    record = await job_of(request, job_id)
    assert record.ending is not None, "a key whose job runs is no answer's"
    outcome = outcome_of(record.ending, "chat")
    answer_of(outcome, job_id)  # raises what it ended with instead of an answer
    response = decode_pending(record.ending.told)
    if not stream:
        return answered(response.whole(outcome))
    events = response_events(response, state.queue.follow("chat", job_id), state.first_text_timer(began_s))
    return EventStream(events)


def _question(asked: ResponseRequest, talk: Talk) -> Asked:
    return Asked(
        question=talk.question,
        generation=asked.generation(asked.max_output_tokens),
        seed=seed_or_drawn(asked.seed),
        is_kept=asked.store,
        brought=talk.turns,
        gone_turns=talk.gone_turns,
        stream=asked.stream,
        strict_length=asked.truncation == "disabled",
        param="previous_response_id",
        image_param=talk.picture_param,
    )


async def _placed(
    state: ApiState,
    tenant: str,
    asked: ResponseRequest,
    talk: Talk,
    pixels: InputPixels | None,
    model: ModelDescription,
) -> tuple[Asked, InputPixels | None, int]:
    """The question where it stands, its picture, and which turn it will be, from 1 on.

    The latest response of a conversation is gone on with in it. After any other, with another picture, and where
    nothing is to be stored, the turns up to there begin anew. Raises ConversationNotFound, ConversationExpired,
    InvalidRequest.
    """
    question = _question(asked, talk)
    if asked.previous_response_id is None:
        return question, pixels, 1
    kept = kept_response(asked.previous_response_id)
    try:
        found = await state.conversations.get(tenant, kept.conversation_id)
    except NotFound:
        raise no_response(asked.previous_response_id) from None
    num_turns = found.num_turns
    if found.turn(kept.turn) is None:
        raise no_response(asked.previous_response_id)
    is_other_picture = pixels is not None and found.meta.image_sha256 not in ("", pixels.sha256)
    if is_other_picture:
        talk.ignore_pictures(1, state.settings.strict_pictures)
    if kept.turn == num_turns and asked.store and not question.brought and not is_other_picture:
        placed = replace(question, conversation_id=kept.conversation_id, after_turns=num_turns)
        return placed, pixels, num_turns + 1
    earlier = found.history(until=kept.turn)
    if pixels is None:
        pixels = await _kept_picture(state, kept, found, model)
    return replace(question, kept=earlier), pixels, 1


async def _kept_picture(
    state: ApiState, kept: KeptResponse, found: Conversation, model: ModelDescription
) -> InputPixels | None:
    """Of the conversation that another one branches off."""
    if not found.meta.image_sha256:
        return None
    if found.meta.image_size_px != model.image_size_px:
        raise InvalidRequest(
            f"previous_response_id: its picture was kept for a model of {found.meta.image_size_px} px, and this one "
            f"takes {model.image_size_px} px; begin anew",
            param="previous_response_id",
        )
    rgb = await state.conversations.pixels(found)
    if not rgb:
        raise no_response(id_of(kept))
    return InputPixels(rgb, found.meta.image_size_px, found.meta.image_sha256)


def _response(
    asked: ResponseRequest, pictures_ignored: int, question: Asked, turn: int, job_id: str
) -> PendingResponse:
    """What is told of it from the beginning."""
    identifier, conversation_id, created = f"resp_{job_id.removeprefix('chat-')}", "", unix_time_s()
    if question.is_kept:
        conversation_id = question.conversation_id or new_conversation_id()
        identifier = id_of(KeptResponse(conversation_id, turn))
    begun = ResponseObject(
        id=identifier,
        created_at=created,
        model=asked.model,
        status="in_progress",
        output=[],
        instructions=asked.instructions,
        max_output_tokens=asked.max_output_tokens,
        previous_response_id=asked.previous_response_id,
        store=asked.store,
        temperature=asked.temperature,
        top_p=asked.top_p,
        truncation=asked.truncation,
    )
    completion = Completion(
        id=identifier,
        created=created,
        model=asked.model,
        search=asked.search,
        seed=question.seed,
        job_ids=[job_id],
        pictures_ignored=pictures_ignored,
    )
    return PendingResponse(begun, completion, conversation_id)
