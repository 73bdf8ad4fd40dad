"""POST /v1/responses: a question, of a response before it or by itself; kept as a conversation.

docs/guides/openai.md tells what of its fields has an effect.
"""

import asyncio
import secrets
from dataclasses import replace

from fastapi import APIRouter, Request
from starlette.responses import Response

from models.jobs import ModelDescription
from service.core.errors import InvalidRequest, NotFound
from service.http.admission import admitted
from service.http.bodies import read_json
from service.http.dependencies import ApiState, request_id_of, state_of, tenant_of
from service.http.middleware import release_body
from service.http.openai.completion import Completion
from service.http.openai.ignored_parameters import tell_ignored
from service.http.openai.response_events import PendingResponse, response_events
from service.http.openai.talk import Talk, read_picture, read_talk
from service.http.openapi import documented
from service.http.routes.chat_jobs import Asked, ChatContext, seed_or_drawn, submit_question
from service.http.routes.responses import answered
from service.http.schemas.bodies import RESPONSE_BODY
from service.http.schemas.openai.responses import (
    KeptResponse,
    ResponseObject,
    ResponseRequest,
    kept_response,
    no_response,
    response_id,
)
from service.http.sse import EventStream
from service.image_input.intake import InputPixels
from service.jobs.intents import ChatIntent
from service.queue.conversation_record import Conversation

router = APIRouter(tags=["openai"])


@router.post(
    "/v1/responses",
    summary="Respond to an input",
    **documented(ResponseObject, body=RESPONSE_BODY, stream=True, makes_job=True, statuses=(404, 409), access="chat"),
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
    async with admitted(request, state, "chat", tenant) as slot:
        await slot.granted()
        pixels = await read_picture(state.images, talk, model.image_size_px)
        asked.input = ""  # what was uploaded is not kept while the job runs
        (asked.model_extra or {}).clear()
        release_body(request.scope)
        question, pixels, turn = await _placed(state, tenant, asked, talk, pixels, model)
        context = ChatContext(tenant, request_id_of(request), model)
        stream, intent = await submit_question(state, slot, context, question, pixels)
        response = _response(asked, talk.pictures_ignored, intent, turn, slot.job_id)
        if not asked.stream:
            async with stream:
                whole = response.whole(await stream.outcome())
            return tell_ignored(answered(whole), ignored, state.metrics)
    events = response_events(response, stream, state.first_text_timer(began_s))
    return tell_ignored(EventStream(events, slot.cancel), ignored, state.metrics)


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
    if not found.num_gone < kept.turn <= num_turns:
        raise no_response(asked.previous_response_id)
    is_other_picture = pixels is not None and found.meta.image_sha256 not in ("", pixels.sha256)
    if is_other_picture:
        talk.ignore_pictures(1, state.settings.strict_pictures)
    if kept.turn == num_turns and asked.store and not question.brought and not is_other_picture:
        placed = replace(question, conversation_id=kept.conversation_id, after_turns=num_turns)
        return placed, pixels, num_turns + 1
    earlier = found.history()[: len(found.meta.earlier) + kept.turn - found.num_gone]
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
        raise no_response(response_id(kept))
    return InputPixels(rgb, found.meta.image_size_px, found.meta.image_sha256)


def _response(
    asked: ResponseRequest, pictures_ignored: int, intent: ChatIntent, turn: int, job_id: str
) -> PendingResponse:
    """What is told of it from the beginning."""
    identifier = f"resp_{secrets.token_urlsafe(18)}"
    if intent.conversation_id:
        identifier = response_id(KeptResponse(intent.conversation_id, turn))
    begun = ResponseObject(
        id=identifier,
        created_at=intent.created,
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
        created=intent.created,
        model=asked.model,
        search=asked.search,
        seed=intent.seed,
        job_ids=[job_id],
        pictures_ignored=pictures_ignored,
    )
    return PendingResponse(begun, completion, intent.conversation_id)
