"""POST /chat: a question about a picture."""

import asyncio

from fastapi import APIRouter, Request
from starlette.responses import Response

from service.core.errors import InvalidRequest
from service.http.access.idempotency import claim_key
from service.http.admission import admitted, require_callback, wants_async
from service.http.bodies import read_chat
from service.http.dependencies import request_id_of, state_of, tenant_of
from service.http.middleware import release_body
from service.http.openapi import documented
from service.http.routes.chat_answers import tell_answer, tell_earlier
from service.http.routes.chat_jobs import Asked, ChatContext, seed_or_drawn, submit_question
from service.http.schemas.bodies import CHAT_BODY
from service.http.schemas.chat import ChatRequest
from service.jobs.answers import ChatResponse

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
    require_callback(request, state, asked.callback_url)
    claim = await claim_key(request, state, "chat", tenant, asked, upload, is_awaited=not wants_async(request))
    if claim is not None and claim.is_earlier:
        return await tell_earlier(request, state, claim.job_id, asked)
    async with admitted(request, state, "chat", tenant, claim, asked.priority, asked.callback_url) as slot:
        if source is not None or asked.conversation_id is not None:
            await slot.granted()
        pixels = None if source is None else await state.images.pixels(source, model.image_size_px, asked.raw)
        asked.image, source, upload = None, None, None  # the upload is not kept while the job runs
        release_body(request.scope)
        context = ChatContext(tenant, request_id_of(request), model)
        stream, intent = await submit_question(state, slot, context, _question(asked), pixels)
        return await tell_answer(request, state, slot, asked, stream, intent, began_s)


def _picture(asked: ChatRequest, upload: bytes | None) -> str | bytes | None:
    if upload is not None and asked.image is not None:
        raise InvalidRequest("image: is given twice, as a file and as a field", param="image")
    return asked.image if upload is None else upload


def _question(asked: ChatRequest) -> Asked:
    return Asked(
        question=asked.question,
        generation=asked.generation(),
        seed=seed_or_drawn(asked.seed),
        conversation_id=asked.conversation_id,
        stream=asked.stream,
        strict_length=asked.strict_length,
        raw=asked.raw,
    )
