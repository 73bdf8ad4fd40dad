"""Conversations: look at one, forget one."""

from typing import Annotated

from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from service.http.dependencies import state_of, tenant_of
from service.http.openapi import documented
from service.http.routes.responses import answered
from service.http.schemas.conversations import ConversationResponse, ConversationTurn
from service.http.schemas.requests import MAX_ID_CHARS

router = APIRouter(prefix="/conversations", tags=["conversations"])

ConversationId = Annotated[str, Path(max_length=MAX_ID_CHARS)]


@router.get(
    "/{conversation_id}",
    summary="A conversation",
    **documented(ConversationResponse, statuses=(404, 503), access="chat"),
)
async def get_conversation(request: Request, conversation_id: ConversationId) -> Response:
    """Its turns, oldest first, and what it is about."""
    conversation = await state_of(request).conversations.get(tenant_of(request), conversation_id)
    turns = [
        ConversationTurn(
            question=turn.question, answer=turn.answer, created=turn.created, finish_reason=turn.finish_reason
        )
        for turn in conversation.turns
    ]
    meta = conversation.meta
    return answered(
        ConversationResponse(
            id=conversation_id,
            created=meta.created,
            model=meta.model,
            turns=turns,
            image_sha256=meta.image_sha256 or None,
            expires_in_s=conversation.expires_in_s,
            dropped_turns=conversation.num_gone,
        )
    )


@router.delete(
    "/{conversation_id}", summary="Forget a conversation", **documented(None, statuses=(404, 503), access="chat")
)
async def delete_conversation(request: Request, conversation_id: ConversationId) -> Response:
    """Its turns and its picture are gone at once; a turn being answered is answered, and not kept."""
    await state_of(request).conversations.delete(tenant_of(request), conversation_id)
    return Response(status_code=204)
