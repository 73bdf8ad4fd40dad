"""Conversations: list them, look at one, rename one, forget one."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from service.http.bodies import read_json
from service.http.dependencies import state_of, tenant_of
from service.http.openapi import documented
from service.http.routes.responses import answered
from service.http.schemas.bodies import RENAME_BODY
from service.http.schemas.conversations import (
    ConversationList,
    ConversationResponse,
    ConversationTurn,
    ListedConversation,
    RenameRequest,
)
from service.http.schemas.requests import MAX_ID_CHARS
from service.jobs.conversations import CURSOR
from service.queue.conversation_record import Conversation

router = APIRouter(prefix="/conversations", tags=["conversations"])

ConversationId = Annotated[str, Path(max_length=MAX_ID_CHARS)]


@router.get("", summary="Conversations", **documented(ConversationList, statuses=(503,), access="chat"))
async def list_conversations(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: Annotated[
        str,
        Query(
            max_length=128,
            description="`next_cursor` of the page before.",
            json_schema_extra={"pattern": f"^({CURSOR.pattern})?$"},
        ),
    ] = "",
) -> Response:
    """Those of one's own tenant, the one used last first, without their turns.

    A page may be shorter than `limit` and not the last: `has_more` says whether there are more.
    """
    page = await state_of(request).conversations.listed(tenant_of(request), limit, cursor)
    listed = [
        ListedConversation(
            id=one.id,
            title=one.title or None,
            created=one.created,
            last_used=one.last_used,
            num_turns=one.num_turns,
            has_image=one.has_image,
        )
        for one in page.conversations
    ]
    has_more = page.next_cursor is not None
    return answered(ConversationList(data=listed, has_more=has_more, next_cursor=page.next_cursor))


@router.get(
    "/{conversation_id}",
    summary="A conversation",
    **documented(ConversationResponse, statuses=(404, 503), access="chat"),
)
async def get_conversation(request: Request, conversation_id: ConversationId) -> Response:
    """Its turns, oldest first, and what it is about."""
    conversation = await state_of(request).conversations.get(tenant_of(request), conversation_id)
    return answered(told(conversation_id, conversation))


@router.patch(
    "/{conversation_id}",
    summary="Rename a conversation",
    **documented(ConversationResponse, body=RENAME_BODY, statuses=(404, 408, 413, 415, 503), access="chat"),
)
async def rename_conversation(request: Request, conversation_id: ConversationId) -> Response:
    """Gives it a title, or with null none. That is no use of it: it expires as before."""
    state, tenant = state_of(request), tenant_of(request)
    asked = await read_json(request, RenameRequest, state.settings)
    await state.conversations.rename(tenant, conversation_id, asked.title or "")
    return answered(told(conversation_id, await state.conversations.get(tenant, conversation_id)))


@router.delete(
    "/{conversation_id}", summary="Forget a conversation", **documented(None, statuses=(404, 503), access="chat")
)
async def delete_conversation(request: Request, conversation_id: ConversationId) -> Response:
    """Its turns, its picture, what was computed of that and its jobs' answers are gone at once.

    A turn being answered is answered, and not kept.
    """
    await state_of(request).conversations.delete(tenant_of(request), conversation_id)
    return Response(status_code=204)


def told(conversation_id: str, conversation: Conversation) -> ConversationResponse:
    turns = [
        ConversationTurn(
            question=turn.question, answer=turn.answer, created=turn.created, finish_reason=turn.finish_reason
        )
        for turn in conversation.told_turns
    ]
    meta = conversation.meta
    return ConversationResponse(
        id=conversation_id,
        created=meta.created,
        model=meta.model,
        turns=turns,
        title=conversation.title or None,
        image_sha256=meta.image_sha256 or None,
        expires_in_s=conversation.expires_in_s,
        dropped_turns=conversation.num_gone,
    )
