"""Copies of conversations: taken along as JSON, brought back, and branched off at a turn."""

import asyncio

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from models.jobs import ModelDescription, Turn
from safety.contents import Inputs
from safety.verdict import Picture
from service.core.errors import ConversationNotFound, InvalidRequest
from service.http.admission import tell_key_use
from service.http.bodies import read_json
from service.http.dependencies import ApiState, caller_of, state_of, tenant_of
from service.http.middleware import release_body
from service.http.openapi import documented
from service.http.routes.conversations.conversations import ConversationId, told
from service.http.routes.responses import answered
from service.http.schemas.bodies import BRANCH_BODY, IMPORT_BODY
from service.http.schemas.conversations import (
    BranchRequest,
    ConversationExport,
    ConversationResponse,
    EarlierTurn,
    ExportedTurn,
    ImportedTurn,
    ImportRequest,
    TurnSettings,
)
from service.image_input.recent_pixels import InputPixels
from service.image_output.kept_picture import png_of
from service.jobs.conversations import new_conversation_id, unix_time_s
from service.jobs.intents import texts_of
from service.queue.conversation_record import Conversation, ConversationMeta, StoredTurn

router = APIRouter(prefix="/conversations", tags=["conversations"])


@router.get(
    "/{conversation_id}/export",
    summary="Take a conversation along",
    **documented(ConversationExport, statuses=(404, 503), access="chat"),
)
async def export_conversation(request: Request, conversation_id: ConversationId) -> Response:
    """Its turns with the settings of each, and its picture as the model sees it."""
    state, tenant = state_of(request), tenant_of(request)
    conversation = await state.conversations.get(tenant, conversation_id)
    rgb = await _pixels(state, conversation_id, conversation)
    meta = conversation.meta
    image = await asyncio.to_thread(png_of, rgb, meta.image_size_px) if rgb else None
    return answered(
        ConversationExport(
            id=conversation_id,
            created=meta.created,
            model=meta.model,
            turns=[_exported(turn) for turn in conversation.told_turns],
            title=conversation.title or None,
            earlier_turns=[EarlierTurn(question=one.question, answer=one.plain_answer) for one in meta.earlier],
            dropped_turns=conversation.num_gone,
            image=image,
        )
    )


@router.post(
    "/import",
    summary="Bring a conversation",
    **documented(
        ConversationResponse,
        body=IMPORT_BODY,
        statuses=(408, 413, 415, 422, 429, 503),
        access="chat",
    ),
)
async def import_conversation(request: Request) -> Response:
    """A new conversation of what an export gave, here or elsewhere.

    All of it is judged first, answers too: whoever brings them may have written them.
    """
    state, tenant = state_of(request), tenant_of(request)
    state.refuse_while_draining()
    asked = await read_json(request, ImportRequest, state.settings)
    model = await state.registry.find("chat")
    await _count_request(request, state)
    conversation_id = new_conversation_id()
    with state.moderating():
        pixels = None
        if asked.image is not None:
            pixels = await state.images.pixels(asked.image, model.image_size_px)
        asked.image = None  # what was uploaded is not kept while it is judged
        release_body(request.scope)
        conversation = _imported(asked, model, pixels)
        picture = None if pixels is None else Picture(pixels.rgb, "rgb", pixels.side_px, pixels.side_px)
        await state.queue.require_allowed(conversation_id, Inputs(texts_of(conversation.history()), picture))
    await state.conversations.create(tenant, conversation_id, conversation, b"" if pixels is None else pixels.rgb)
    return answered(told(conversation_id, await state.conversations.get(tenant, conversation_id)))


@router.post(
    "/{conversation_id}/branch",
    summary="Branch off a conversation",
    **documented(
        ConversationResponse,
        body=BRANCH_BODY,
        statuses=(404, 408, 413, 415, 429, 503),
        access="chat",
    ),
)
async def branch_conversation(request: Request, conversation_id: ConversationId) -> Response:
    """A new conversation of the turns before `turn` and the same picture; the old one stays as it is."""
    state, tenant = state_of(request), tenant_of(request)
    asked = await read_json(request, BranchRequest, state.settings)
    await _count_request(request, state)
    source = await state.conversations.get(tenant, conversation_id)
    turn = source.num_turns + 1 if asked.turn is None else asked.turn
    if not source.num_gone < turn <= source.num_turns + 1:
        raise InvalidRequest(
            f"turn: must be from {source.num_gone + 1} to {source.num_turns + 1}, got {turn}: the conversation has "
            f"had {source.num_turns} turns, and its first {source.num_gone} are gone",
            param="turn",
        )
    rgb = await _pixels(state, conversation_id, source)
    branch = msgspec.structs.replace(
        source,
        meta=msgspec.structs.replace(source.meta, created=unix_time_s()),
        turns=source.turns[: turn - 1 - source.num_gone],
        title=asked.title or source.title,
    )
    branch_id = new_conversation_id()
    await state.conversations.create(tenant, branch_id, branch, rgb)
    return answered(told(branch_id, await state.conversations.get(tenant, branch_id)))


async def _count_request(request: Request, state: ApiState) -> None:
    """Against the limits of its API key. Raises RateLimited."""
    if (key := caller_of(request).key) is not None:
        tell_key_use(request, await state.queue.take_request(key))


async def _pixels(state: ApiState, conversation_id: str, conversation: Conversation) -> bytes:
    """Of its picture; empty: it has none. Raises ConversationNotFound where it was deleted just now."""
    if not conversation.meta.image_sha256:
        return b""
    rgb = await state.conversations.pixels(conversation)
    if not rgb:
        raise ConversationNotFound(
            f"no conversation {conversation_id[:64]!r}: it was deleted just now", param="conversation_id"
        )
    return rgb


def _exported(turn: StoredTurn) -> ExportedTurn:
    return ExportedTurn(
        question=turn.question,
        answer=turn.answer,
        created=turn.created,
        finish_reason=turn.finish_reason,
        settings=None if turn.generation is None else TurnSettings.of(turn.generation, turn.seed),
    )


def _imported(asked: ImportRequest, model: ModelDescription, pixels: InputPixels | None) -> Conversation:
    """What is said in it is plain text: nothing of it is special to the model."""
    meta = ConversationMeta(
        created=unix_time_s(),
        model=model.name,
        fingerprint=model.fingerprint,
        image_sha256="" if pixels is None else pixels.sha256,
        image_size_px=0 if pixels is None else pixels.side_px,
        earlier=[Turn.of_plain(one.question, one.answer) for one in asked.earlier_turns],
    )
    return Conversation(meta, [_stored(turn) for turn in asked.turns], title=asked.title or "")


def _stored(turn: ImportedTurn) -> StoredTurn:
    return StoredTurn(
        question=turn.question,
        answer=turn.answer,
        answer_escaped=Turn.of_plain(turn.question, turn.answer).answer,
        created=turn.created,
        finish_reason=turn.finish_reason,
        seed=0 if turn.settings is None else turn.settings.seed or 0,
        generation=None if turn.settings is None else turn.settings.generation(),
    )
