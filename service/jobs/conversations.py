"""Conversations in Redis: what was asked and answered, about which picture, under whose id.

A conversation is the hash of its metadata, the model's input pixels, the list of turns and the job that is answering
the next one (Keys.conversation). The queue appends a turn in the same atomic transition as its job's ending. The busy
mark counts only while its job has not ended, so nothing that dies leaves a conversation locked. All conversations
together keep to a byte budget: those used longest ago make room, as a whole.
"""

import asyncio
import re
import secrets
import time
from typing import Any, NamedTuple

from service.core.errors import ConversationBusy, ConversationExpired, ConversationNotFound, InvalidRequest
from service.core.metrics import Metrics
from service.core.settings import Settings
from service.queue.conversation_record import (
    Conversation,
    ConversationMeta,
    StoredTurn,
    decode_meta,
    decode_turn,
    encode_part,
)
from service.queue.record import TurnAppend
from service.queue.vision_cache import tenant_salt
from service.redis.connection import RedisConnection, RedisServers
from service.redis.keys import Keys

_EVICT_AT_ONCE = 100
_TRIES = 5
CURSOR = re.compile(r"([0-9]{1,16})\.([A-Za-z0-9_-]{1,64})")  # ms of the last use, and the id
_TOMBSTONE = encode_part(StoredTurn("", "", "", 0, is_deleted=True))
_UNKNOWN, _EXPIRED, _BUSY, _ASK_AGAIN = range(4)  # conversations.lua


class ListedConversation(NamedTuple):
    """What a list tells of a conversation. `num_turns` counts those too that are gone; times are Unix time."""

    id: str
    title: str
    created: int
    last_used: int
    num_turns: int
    has_image: bool


class ConversationPage(NamedTuple):
    """Those used last first. `next_cursor` is where the next page goes on; None: this is the last."""

    conversations: list[ListedConversation]
    next_cursor: str | None


def new_conversation_id() -> str:
    return f"conv-{secrets.token_urlsafe(18)}"


class Conversations:
    """Every call raises BusUnavailable where Redis does not serve it."""

    def __init__(self, redis: RedisServers, settings: Settings, metrics: Metrics | None = None) -> None:
        self._connection = RedisConnection(redis)
        self._keys = Keys(settings.redis_prefix)
        self._settings = settings
        self._metrics = metrics

    async def close(self) -> None:
        await self._connection.close()

    async def open(self, tenant: str, conversation_id: str, job_id: str) -> Conversation:
        """Take the conversation for one turn; it is free again when the job has ended.

        Raises ConversationNotFound, ConversationExpired, ConversationBusy.
        """
        settings, member = self._settings, _member(tenant, conversation_id)
        busy_ms = int((settings.slot_lease_s + settings.chat_deadline_s) * 1000)
        ttl_ms = settings.conversation_ttl_s * 1000
        # As long as the job's answer can be read: who deletes the conversation forgets that too
        job_ms = busy_ms + settings.retained_s("chat") * 1000
        found = await self._asked("conversation_open", member, conversation_id, job_id, busy_ms, ttl_ms, job_ms)
        if found[0] == _BUSY:
            raise ConversationBusy("another turn of this conversation is being answered; ask again when it is done")
        meta, turns, num_gone = found
        return Conversation(
            decode_meta(meta),
            [decode_turn(turn) for turn in turns],
            pixels_key=self._keys.conversation_pixels(member),
            num_gone=int(num_gone),
        )

    async def pixels(self, conversation: Conversation) -> bytes:
        """Of its picture, as the model takes them. Empty: it has none, or was deleted meanwhile."""
        found: bytes | None = await self._connection.send("GET", conversation.pixels_key)
        return found or b""

    async def get(self, tenant: str, conversation_id: str) -> Conversation:
        """Look at it. Raises ConversationNotFound, ConversationExpired."""
        member = _member(tenant, conversation_id)
        meta, turns, num_gone, left_ms, title = await self._asked("conversation_get", member, conversation_id)
        return Conversation(
            decode_meta(meta),
            [decode_turn(turn) for turn in turns],
            expires_in_s=max(0, left_ms // 1000),
            pixels_key=self._keys.conversation_pixels(member),
            num_gone=int(num_gone),
            title=title.decode(),
        )

    async def listed(self, tenant: str, limit: int, cursor: str = "") -> ConversationPage:
        """A tenant's conversations, after those of the page that gave the cursor. Raises InvalidRequest.

        A page may be shorter than `limit`: those that expired since are passed over.
        """
        used_ms, after = "+inf", ""
        if cursor:
            place = CURSOR.fullmatch(cursor)
            if place is None:
                raise InvalidRequest(
                    f"cursor: must be the `next_cursor` of a page before, got {cursor[:80]!r}", param="cursor"
                )
            used_ms, after = place[1], place[2]
        index = self._keys.tenant_conversations(tenant)
        found = await self._connection.transition("conversations_listed", [index], limit + 1, used_ms, after)
        ids, used = [part.decode() for part in found[::2]], [int(part) for part in found[1::2]]
        page = list(zip(ids, used, strict=True))[:limit]
        read = await asyncio.gather(*(self._listed(tenant, one, last_ms) for one, last_ms in page))
        gone = [one for (one, _), listed in zip(page, read, strict=True) if listed is None]
        if gone:  # expired, or dropped by a process that keeps no list; no id is used twice
            await self._connection.send("ZREM", index, *gone)
        next_cursor = f"{page[-1][1]}.{page[-1][0]}" if len(ids) > limit else None
        return ConversationPage([listed for listed in read if listed is not None], next_cursor)

    async def _listed(self, tenant: str, conversation_id: str, used_ms: int) -> ListedConversation | None:
        key, turns, *_ = self._keys.conversation(f"{tenant}:{conversation_id}")
        (meta, title, num_gone), num_turns = await asyncio.gather(
            self._connection.send("HMGET", key, "meta", "title", "gone"), self._connection.send("LLEN", turns)
        )
        if meta is None:
            return None
        begun = decode_meta(meta)
        return ListedConversation(
            conversation_id,
            (title or b"").decode(),
            begun.created,
            used_ms // 1000,
            num_turns + int(num_gone or 0),
            bool(begun.image_sha256),
        )

    async def rename(self, tenant: str, conversation_id: str, title: str) -> None:
        """Give it a title; empty: none. Raises ConversationNotFound, ConversationExpired."""
        await self._asked("conversation_rename", _member(tenant, conversation_id), conversation_id, title)

    async def create(self, tenant: str, conversation_id: str, conversation: Conversation, rgb: bytes) -> None:
        """Keep a conversation that comes whole: the gate has let all of it pass. `rgb`: its picture's pixels."""
        member = _member(tenant, conversation_id)
        await self._connection.transition(
            "conversation_create",
            (*self._keys.conversation_books, *self._keys.conversation(member)),
            member,
            encode_part(conversation.meta),
            conversation.title,
            conversation.num_gone,
            rgb,
            self._settings.conversation_ttl_s * 1000,
            *map(encode_part, conversation.turns),
        )

    async def delete(self, tenant: str, conversation_id: str) -> None:
        """Forget it, its turns, its pixels, their image embeddings and the jobs that answered, at once.

        A turn in work is answered and not kept. Raises ConversationNotFound, ConversationExpired.
        """
        member = _member(tenant, conversation_id)
        _, jobs = await self._asked("conversation_delete", member, conversation_id, salt=tenant_salt(tenant))
        calls = [("forget_ended", self._keys.of_job(job_id.decode()), ()) for job_id in jobs]
        for reply in await self._connection.transitions(calls):
            if isinstance(reply, BaseException):
                raise reply

    async def forget_turn(self, tenant: str, conversation_id: str, turn: int, job_id: str) -> None:
        """Forget one turn and its job's answer; the others keep their numbers. With the last one all is deleted.

        Args:
            turn: its number, from 1 on.

        Raises ConversationNotFound, ConversationExpired.
        """
        member = _member(tenant, conversation_id)
        _, left = await self._asked("conversation_forget_turn", member, conversation_id, turn, _TOMBSTONE)
        await self._connection.transition("forget_ended", self._keys.of_job(job_id))
        if not left:
            await self.delete(tenant, conversation_id)

    def append(
        self,
        tenant: str,
        conversation_id: str,
        turn: StoredTurn,
        begun: ConversationMeta | None,
        joined: ConversationMeta | None = None,
        replaces_last: bool = False,
    ) -> TurnAppend:
        """The turn that the queue writes with the job's ending.

        Args:
            begun: with a conversation's first turn.
            joined: with the turn that brings it its picture later.
            replaces_last: the last turn is answered anew.
        """
        meta = begun or joined
        fields = {} if meta is None else {"meta": encode_part(meta)}
        return TurnAppend(
            conversation=_member(tenant, conversation_id),
            turn=encode_part(turn),
            ttl_s=self._settings.conversation_ttl_s,
            max_turns=self._settings.conversation_max_turns,
            is_new=begun is not None,
            replaces_last=replaces_last,
            fields=fields,
        )

    async def make_room(self) -> int:
        """Drop what expired, and what was used longest ago while all take more than the budget; how many."""
        settings, num_dropped = self._settings, 0
        ttl_ms = settings.conversation_ttl_s * 1000
        while True:
            overdue, total_bytes = await self._connection.transition(
                "conversations_overdue",
                self._keys.conversation_books,
                _EVICT_AT_ONCE,
                ttl_ms,
                settings.conversation_bytes,
            )
            replies = await self._connection.transitions(
                [
                    ("conversation_evict", self._keys_of(member.decode()), (member, used_ms))
                    for member, used_ms, _ in overdue
                ]
            )
            for (_, _, reason), reply in zip(overdue, replies, strict=True):
                if isinstance(reply, BaseException):
                    raise reply
                num_dropped += reply
                if reply and self._metrics is not None:
                    self._metrics.count("conversations_dropped_total", reason=reason.decode())
            if len(overdue) < _EVICT_AT_ONCE:
                if self._metrics is not None:
                    self._metrics.set("conversations_bytes", total_bytes)
                return num_dropped

    async def _asked(
        self, name: str, member: str, conversation_id: str, *arguments: str | int | bytes, salt: str = ""
    ) -> Any:
        """A transition of one conversation: where a job is answering it, asked again with that job's record."""
        keys, holder = self._keys_of(member), ""
        for _ in range(_TRIES):
            own = (*arguments, holder) if not salt else (holder, salt)
            of_holder = (self._keys.job(holder), self._keys.pixels(holder)) if holder else ()
            found = await self._connection.transition(name, (*keys, *of_holder), member, *own)
            if found[0] == _ASK_AGAIN:
                holder = found[1].decode()
                continue
            if found[0] == _UNKNOWN:
                raise ConversationNotFound(
                    f"no conversation {conversation_id[:64]!r}: it never was, or was deleted", param="conversation_id"
                )
            if found[0] == _EXPIRED:
                raise ConversationExpired(
                    f"the conversation {conversation_id[:64]!r} has expired: it was not used for "
                    f"{self._settings.conversation_ttl_s} s, or made room for others; begin a new one",
                    param="conversation_id",
                )
            return found
        raise ConversationBusy("turns of this conversation follow one another too fast; ask again")

    def _keys_of(self, member: str) -> tuple[str, ...]:
        return (*self._keys.conversation_books, *self._keys.conversation(member), *self._keys.vision_cache)


def _member(tenant: str, conversation_id: str) -> str:
    """Raises ConversationNotFound: the id would name another conversation's turns or picture."""
    if ":" in conversation_id:
        raise ConversationNotFound(
            f"no conversation {conversation_id[:64]!r}: an id has no colon", param="conversation_id"
        )
    return f"{tenant}:{conversation_id}"


def unix_time_s() -> int:
    return int(time.time())
