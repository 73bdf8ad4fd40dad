"""POST /conversations/{id}/regenerate: the last question, answered anew."""

import asyncio

from fastapi import APIRouter, Request
from starlette.responses import Response

from service.core.errors import InvalidRequest
from service.http.access.idempotency import claim_key
from service.http.admission import admitted, require_callback, wants_async
from service.http.bodies import read_json
from service.http.dependencies import request_id_of, state_of, tenant_of
from service.http.openapi import documented
from service.http.routes.chat_answers import tell_answer, tell_earlier
from service.http.routes.chat_jobs import Asked, ChatContext, seed_or_drawn, submit_question
from service.http.routes.conversations.conversations import ConversationId
from service.http.schemas.bodies import REGENERATE_BODY
from service.http.schemas.conversations import RegenerateRequest
from service.jobs.answers import ChatResponse
from service.queue.conversation_record import Conversation

router = APIRouter(prefix="/conversations", tags=["conversations"])


@router.post(
    "/{conversation_id}/regenerate",
    summary="Answer the last question anew",
    **documented(ChatResponse, body=REGENERATE_BODY, stream=True, may_wait=True, statuses=(404,), access="chat"),
)
async def regenerate(request: Request, conversation_id: ConversationId) -> Response:
    """The answer takes the place of the last one, which stays where the job does not end in an answer.

    Another answer needs `do_sample` or other settings: a search gives the same one again.
    """
    began_s = asyncio.get_running_loop().time()
    state, tenant = state_of(request), tenant_of(request)
    state.refuse_while_draining()
    asked = await read_json(request, RegenerateRequest, state.settings)
    model = await state.registry.find("chat")
    require_callback(request, state, asked.callback_url)
    claim = await claim_key(request, state, "chat", tenant, asked, is_awaited=not wants_async(request))
    if claim is not None and claim.is_earlier:
        return await tell_earlier(request, state, claim.job_id, asked)
    async with admitted(request, state, "chat", tenant, claim, asked.priority, asked.callback_url) as slot:
        await slot.granted()
        conversation = await state.conversations.get(tenant, conversation_id)
        question = _question(asked, conversation_id, conversation)
        context = ChatContext(tenant, request_id_of(request), model)
        stream, intent = await submit_question(state, slot, context, question, None)
        return await tell_answer(request, state, slot, asked, stream, intent, began_s)


def _question(asked: RegenerateRequest, conversation_id: str, conversation: Conversation) -> Asked:
    if not conversation.turns or conversation.turns[-1].is_deleted:
        raise InvalidRequest("conversation_id: the conversation has no turn to answer anew", param="conversation_id")
    return Asked(
        question=conversation.turns[-1].question,
        generation=asked.generation(),
        seed=seed_or_drawn(asked.seed),
        conversation_id=conversation_id,
        after_turns=conversation.num_turns,
        regenerates=True,
        stream=asked.stream,
        strict_length=asked.strict_length,
        raw=asked.raw,
    )
