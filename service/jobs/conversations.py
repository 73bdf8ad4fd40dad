"""Conversations in Redis: what was asked and answered, about which picture, under whose id.

`conversation:{tenant}:{id}` is a hash with the metadata, `…:pixels` the model's input pixels, `…:turns` the list of
turns and `…:busy` the job that is answering the next one. The queue appends a turn in the same atomic transition as its
job's ending. The busy mark counts only while its job has not ended, so nothing that dies leaves a conversation locked.
"""

import asyncio
import secrets
import time
from typing import Any

import msgspec
import redis.asyncio

from models.jobs import Turn
from service.core.errors import ConversationBusy, ConversationNotFound
from service.core.settings import Settings
from service.queue.connection import RedisConnection
from service.queue.record import TurnAppend
from service.queue.vision_cache import forget_image, picture_key

# Marks the conversation busy and returns it; false: unknown; 0: busy. ARGV: key, job id, busy ms, ttl ms.
_OPEN = b"""
local key, id = ARGV[1], ARGV[2]
if redis.call('EXISTS', key) == 0 then return false end
local holder = redis.call('GET', key .. ':busy')
if holder and holder ~= id then
  local state = redis.call('HGET', 'job:' .. holder, 'state')
  if state == 'reserved' or state == 'queued' or state == 'running' or state == 'generated' then return 0 end
end
redis.call('SET', key .. ':busy', id, 'PX', ARGV[3])
redis.call('PEXPIRE', key, ARGV[4])
redis.call('PEXPIRE', key .. ':turns', ARGV[4])
redis.call('PEXPIRE', key .. ':pixels', ARGV[4])
local turns = redis.call('LRANGE', key .. ':turns', 0, -1)
return {redis.call('HGET', key, 'meta'), turns}
"""

# Forgets the conversation and returns its metadata; false: unknown. A turn in work keeps the picture. ARGV: key.
_DELETE = b"""
local key = ARGV[1]
local meta = redis.call('HGET', key, 'meta')
if not meta then return false end
local holder = redis.call('GET', key .. ':busy')
if holder and redis.call('EXISTS', key .. ':pixels') == 1 then
  local state = redis.call('HGET', 'job:' .. holder, 'state')
  if state == 'reserved' or state == 'queued' or state == 'running' then
    redis.call('RENAME', key .. ':pixels', 'pixels:' .. holder)
  end
end
redis.call('DEL', key, key .. ':turns', key .. ':pixels', key .. ':busy')
return meta
"""


class StoredTurn(msgspec.Struct, frozen=True, omit_defaults=True):
    """One turn. `answer` is for display, `answer_escaped` for the history (SPEC §11.2)."""

    question: str
    answer: str
    answer_escaped: str
    created: int
    finish_reason: str = "stop"


class ConversationMeta(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a conversation began with. `image_sha256` is of the pixels; empty without a picture."""

    created: int
    model: str
    fingerprint: str
    image_sha256: str = ""
    image_size_px: int = 0


class Conversation(msgspec.Struct, frozen=True):
    """`expires_in_s` is there for one that was only looked at: opening renews it."""

    meta: ConversationMeta
    turns: list[StoredTurn]
    expires_in_s: int = 0

    def history(self) -> list[Turn]:
        return [Turn(question=turn.question, answer=turn.answer_escaped) for turn in self.turns]


def new_conversation_id() -> str:
    return f"conv-{secrets.token_urlsafe(18)}"


def conversation_key(tenant: str, conversation_id: str) -> str:
    """Raises ConversationNotFound: the id would name another conversation's turns or picture."""
    if ":" in conversation_id:
        raise _not_found(conversation_id)
    return f"conversation:{tenant}:{conversation_id}"


def busy_key(tenant: str, conversation_id: str) -> str:
    """Holds the id of the job that answers the next turn."""
    return conversation_key(tenant, conversation_id) + ":busy"


def pixels_key(tenant: str, conversation_id: str) -> str:
    """Holds the model's input pixels of the conversation's picture."""
    return conversation_key(tenant, conversation_id) + ":pixels"


class Conversations:
    """Every call raises BusUnavailable where Redis does not serve it."""

    def __init__(self, redis: "redis.asyncio.Redis", settings: Settings) -> None:
        self._connection = RedisConnection(redis)
        self._settings = settings

    async def close(self) -> None:
        await self._connection.close()

    async def open(self, tenant: str, conversation_id: str, job_id: str) -> Conversation:
        """Take the conversation for one turn; it is free again when the job has ended.

        Raises ConversationNotFound, ConversationBusy.
        """
        settings = self._settings
        busy_s = settings.slot_lease_s + settings.chat_deadline_s
        reply = await self._connection.send(
            "EVAL",
            _OPEN,
            0,
            conversation_key(tenant, conversation_id),
            job_id,
            int(busy_s * 1000),
            settings.conversation_ttl_s * 1000,
        )
        if reply is None:
            raise _not_found(conversation_id)
        if reply == 0:
            raise ConversationBusy("another turn of this conversation is being answered; ask again when it is done")
        meta, turns = reply
        return Conversation(_meta_decoder.decode(meta), [_turn_decoder.decode(turn) for turn in turns])

    async def get(self, tenant: str, conversation_id: str) -> Conversation:
        """Look at it. Raises ConversationNotFound."""
        key = conversation_key(tenant, conversation_id)
        meta, turns, left_ms = await self._gather(
            ("HGET", key, "meta"), ("LRANGE", f"{key}:turns", 0, -1), ("PTTL", key)
        )
        if meta is None:
            raise _not_found(conversation_id)
        return Conversation(
            _meta_decoder.decode(meta),
            [_turn_decoder.decode(turn) for turn in turns],
            expires_in_s=max(0, left_ms // 1000),
        )

    async def delete(self, tenant: str, conversation_id: str) -> None:
        """Forget it, its turns, its pixels and their image embeddings; a turn in work is answered and not kept.

        Raises ConversationNotFound.
        """
        meta = await self._connection.send("EVAL", _DELETE, 0, conversation_key(tenant, conversation_id))
        if meta is None:
            raise _not_found(conversation_id)
        sha256 = _meta_decoder.decode(meta).image_sha256
        if sha256:  # another conversation about the same picture computes its state again
            await forget_image(self._connection, picture_key(tenant, sha256))

    def append(self, tenant: str, conversation_id: str, turn: StoredTurn, begun: ConversationMeta | None) -> TurnAppend:
        """The turn that the queue writes with the job's ending; with a conversation's first, `begun`."""
        fields = {} if begun is None else {"meta": _encoder.encode(begun)}
        return TurnAppend(
            conversation_key=conversation_key(tenant, conversation_id),
            turn=_encoder.encode(turn),
            ttl_s=self._settings.conversation_ttl_s,
            max_turns=self._settings.conversation_max_turns,
            is_new=begun is not None,
            fields=fields,
        )

    async def _gather(self, *commands: tuple[str | int, ...]) -> list[Any]:
        return await asyncio.gather(*(self._connection.send(*command) for command in commands))


def _not_found(conversation_id: str) -> ConversationNotFound:
    return ConversationNotFound(
        f"no conversation {conversation_id[:64]!r}: it never was, has expired or was deleted", param="conversation_id"
    )


def unix_time_s() -> int:
    return int(time.time())


_encoder = msgspec.msgpack.Encoder()
_meta_decoder = msgspec.msgpack.Decoder(ConversationMeta)
_turn_decoder = msgspec.msgpack.Decoder(StoredTurn)
