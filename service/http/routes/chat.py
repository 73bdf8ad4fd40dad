"""POST /chat: a question about a picture."""

import asyncio
import secrets

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from models.jobs import ChatJob, ModelDescription
from service.core.errors import ContextLengthExceeded, InvalidRequest
from service.http.admission import admitted, wants_async
from service.http.bodies import read_chat
from service.http.dependencies import ApiState, job_of, request_id_of, state_of, tenant_of
from service.http.idempotency import claim_key
from service.http.middleware import release_body
from service.http.openapi import CHAT_BODY, documented
from service.http.routes.responses import accepted, answered, begin_of, chat_events
from service.http.schemas.chat import ChatDelta, ChatRequest
from service.http.sse import EventStream
from service.image_input.copies import is_copy
from service.image_input.intake import InputPixels
from service.jobs.answers import ChatResponse, answer_of, outcome_of
from service.jobs.conversations import (
    Conversation,
    ConversationMeta,
    new_conversation_id,
    unix_time_s,
)
from service.jobs.intents import ChatIntent
from service.queue.vision_cache import picture_key

router = APIRouter(tags=["chat"])


@router.post(
    "/chat",
    summary="Ask about a picture",
    **documented(ChatResponse, body=CHAT_BODY, stream=True, may_wait=True, statuses=(404,), access="chat"),
)
async def chat(request: Request) -> Response:
    """Begin a conversation with a picture and a question, or go on with one by its id.

    `{"image": "<base64>", "question": "…"}` is enough. With `stream` the answer comes as server-sent events: pieces of
    text, then the same body as without, then `[DONE]`.
    """
    began_s = asyncio.get_running_loop().time()
    state, tenant = state_of(request), tenant_of(request)
    state.refuse_while_draining()
    asked, upload = await read_chat(request, state.settings)
    source = _picture(asked, upload)
    model = await state.registry.find("chat")
    claim = await claim_key(request, state, "chat", tenant, asked, upload, is_awaited=not wants_async(request))
    if claim is not None and claim.is_earlier:
        return await _of_earlier(request, state, claim.job_id, asked)
    async with admitted(request, state, "chat", tenant, claim, asked.priority) as slot:
        if source is not None or asked.conversation_id is not None:
            await slot.granted()
        pixels = None if source is None else await state.images.pixels(source, model.image_size_px, asked.raw)
        asked.image, source, upload = None, None, None  # the upload is not kept while the job runs
        release_body(request.scope)
        opened = await _open(state, tenant, asked.conversation_id, slot.job_id, pixels)
        if opened is not None and asked.strict_length:
            _require_room(opened, state.settings.conversation_max_turns)
        job = _job(slot.job_id, request_id_of(request), asked, model, tenant, opened, pixels)
        intent = _intent(asked, job, model, tenant, opened, pixels)
        stream = await slot.submit(job, intent)
        if not asked.stream and not wants_async(request):
            async with stream:
                return answered(answer_of(await stream.outcome(), slot.job_id, asked.include))
    if wants_async(request):
        state.finish_in_background(stream, slot.job_id)
        return accepted(slot.job_id, "chat", intent.created, request.scope["root_path"])
    begin = ChatDelta(
        id=slot.job_id,
        created=intent.created,
        model=intent.model,
        conversation_id=intent.conversation_id,
        delta="",
        offset=0,
    )

    def on_first_text() -> None:
        waited_s = asyncio.get_running_loop().time() - began_s
        state.metrics.observe("time_to_first_token_seconds", waited_s, model="chat")

    return EventStream(chat_events(stream, begin, include=asked.include, on_first_text=on_first_text), slot.cancel)


async def _of_earlier(request: Request, state: ApiState, job_id: str, asked: ChatRequest) -> Response:
    """What the earlier request with the same Idempotency-Key was answered, or is."""
    record = await job_of(request, job_id)
    if wants_async(request):
        return accepted(job_id, "chat", record.created_ms // 1000, request.scope["root_path"])
    if asked.stream:
        begin = begin_of(job_id, record)
        return EventStream(chat_events(state.queue.follow("chat", job_id), begin, include=asked.include))
    assert record.ending is not None, "a key whose job runs is no answer's"
    return answered(answer_of(outcome_of(record.ending, "chat"), job_id, asked.include))


def _picture(asked: ChatRequest, upload: bytes | None) -> str | bytes | None:
    if upload is not None and asked.image is not None:
        raise InvalidRequest("image: is given twice, as a file and as a field", param="image")
    return asked.image if upload is None else upload


async def _open(
    state: ApiState, tenant: str, conversation_id: str | None, job_id: str, pixels: InputPixels | None
) -> Conversation | None:
    """The conversation that the question belongs to, marked busy; None: a new one."""
    if conversation_id is None:
        return None
    conversation = await state.conversations.open(tenant, conversation_id, job_id)
    if pixels is not None and not await _may_bring(state, conversation, pixels):
        raise InvalidRequest(
            "image: the conversation is about another picture; leave the image out, or begin a new conversation",
            param="image",
        )
    return conversation


async def _may_bring(state: ApiState, conversation: Conversation, pixels: InputPixels) -> bool:
    """A picture where there is none, or once more what is kept: the same pixels, or a copy compressed or resized."""
    kept = conversation.meta
    if not kept.image_sha256 or kept.image_sha256 == pixels.sha256:
        return True
    if kept.image_size_px != pixels.side_px:  # it was kept for another model, which is told later
        return True
    return is_copy(await state.conversations.pixels(conversation), pixels.rgb, pixels.side_px)


def _require_room(opened: Conversation, max_turns: int) -> None:
    """Raises ContextLengthExceeded where a turn is gone, or this one would drop one."""
    num_turns = opened.num_gone + len(opened.turns) + 1
    if num_turns > max_turns:
        raise ContextLengthExceeded(
            f"strict_length: the talk has {num_turns} turns with this one, and {max_turns} are kept "
            "(VISCPM_CONVERSATION_MAX_TURNS)",
            param="conversation_id",
        )


def _job(
    job_id: str,
    request_id: str,
    asked: ChatRequest,
    model: ModelDescription,
    tenant: str,
    opened: Conversation | None,
    pixels: InputPixels | None,
) -> ChatJob:
    """A later turn names the conversation's pixels, which its worker reads where the image is no longer cached.

    One that brings a picture to a conversation without any carries it, as a first turn does.
    """
    rgb, side_px, sha256 = (b"", 0, "") if pixels is None else pixels
    kept_at = ""
    if opened is not None and opened.meta.image_sha256:
        rgb, side_px, sha256 = b"", opened.meta.image_size_px, opened.meta.image_sha256
        kept_at = opened.pixels_key
        if side_px != model.image_size_px:
            raise InvalidRequest(
                f"conversation_id: the conversation's picture was kept for a model of {side_px} px, and this one "
                f"takes {model.image_size_px} px; begin a new conversation",
                param="conversation_id",
            )
    return ChatJob(
        job_id=job_id,
        request_id=request_id,
        question=asked.question,
        history=[] if opened is None else opened.history(),
        pixels=rgb,
        image_size_px=side_px,
        image_key=picture_key(tenant, sha256) if sha256 else "",
        pixels_key=kept_at,
        generation=asked.generation(),
        seed=secrets.randbits(31) if asked.seed is None else asked.seed,
        stream=asked.stream,
        strict_length=asked.strict_length,
        raw_text=asked.raw,
    )


def _intent(
    asked: ChatRequest,
    job: ChatJob,
    model: ModelDescription,
    tenant: str,
    opened: Conversation | None,
    pixels: InputPixels | None,
) -> ChatIntent:
    created = unix_time_s()
    begun, joined = None, None
    if opened is not None and pixels is not None and not opened.meta.image_sha256:
        joined = msgspec.structs.replace(opened.meta, image_sha256=pixels.sha256, image_size_px=job.image_size_px)
    if asked.conversation_id is None:
        begun = ConversationMeta(
            created=created,
            model=model.name,
            fingerprint=model.fingerprint,
            image_sha256="" if pixels is None else pixels.sha256,
            image_size_px=job.image_size_px,
        )
    return ChatIntent(
        tenant=tenant,
        created=created,
        model=model.name,
        conversation_id=asked.conversation_id or new_conversation_id(),
        question=asked.question,
        seed=job.seed,
        begun=begun,
        untrained=model.untrained,
        joined=joined,
        has_image=job.has_image,
        gone_turns=0 if opened is None else opened.num_gone,
    )
