"""What Redis keeps of one conversation: what it is about, and its turns."""

import msgspec

from models.jobs import ChatGeneration, Turn


class StoredTurn(msgspec.Struct, frozen=True, omit_defaults=True):
    """One turn. `answer` is for display, `answer_escaped` for the history (SPEC §11.2).

    `generation` and `seed` are how it was answered; None: nobody wrote it down.
    """

    question: str
    answer: str
    answer_escaped: str
    created: int
    finish_reason: str = "stop"
    seed: int = 0
    generation: ChatGeneration | None = None


class ConversationMeta(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a conversation began with. `image_sha256` is of the pixels; empty without a picture.

    `earlier` are turns that its first request brought along.
    """

    created: int
    model: str
    fingerprint: str
    image_sha256: str = ""
    image_size_px: int = 0
    earlier: list[Turn] = []


class Conversation(msgspec.Struct, frozen=True):
    """`expires_in_s` is there for one that was only looked at: opening renews it.

    `pixels_key` names the picture's pixels in Redis, for the worker that computes the next turn. `num_gone` counts the
    oldest turns, which are not kept any more (VISCPM_CONVERSATION_MAX_TURNS).
    """

    meta: ConversationMeta
    turns: list[StoredTurn]
    expires_in_s: int = 0
    pixels_key: str = ""
    num_gone: int = 0
    title: str = ""

    @property
    def num_turns(self) -> int:
        """All that it has had, those included that are gone."""
        return self.num_gone + len(self.turns)

    def history(self) -> list[Turn]:
        kept = [Turn(question=turn.question, answer=turn.answer_escaped) for turn in self.turns]
        return [*self.meta.earlier, *kept]


def encode_part(part: ConversationMeta | StoredTurn) -> bytes:
    return _encoder.encode(part)


def decode_meta(data: bytes) -> ConversationMeta:
    return _meta_decoder.decode(data)


def decode_turn(data: bytes) -> StoredTurn:
    return _turn_decoder.decode(data)


_encoder = msgspec.msgpack.Encoder()
_meta_decoder = msgspec.msgpack.Decoder(ConversationMeta)
_turn_decoder = msgspec.msgpack.Decoder(StoredTurn)
