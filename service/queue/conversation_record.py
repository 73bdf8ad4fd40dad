"""What Redis keeps of one conversation: what it is about, and its turns."""

import msgspec

from models.jobs import ChatGeneration, Turn


class StoredTurn(msgspec.Struct, frozen=True, omit_defaults=True):
    """One turn. `answer` is for display, `answer_escaped` for the history (SPEC §11.2).

    `generation` and `seed` are how it was answered; None: nobody wrote it down. Of a turn that is told as a response,
    `told` is what its route told of it first, and `answered` the answer without its text. One that was deleted leaves
    an empty place, so that the others keep their numbers.
    """

    question: str
    answer: str
    answer_escaped: str
    created: int
    finish_reason: str = "stop"
    seed: int = 0
    generation: ChatGeneration | None = None
    told: bytes = b""
    answered: bytes = b""
    is_deleted: bool = False


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

    @property
    def told_turns(self) -> list[StoredTurn]:
        """Those that were not deleted."""
        return [turn for turn in self.turns if not turn.is_deleted]

    def turn(self, number: int) -> StoredTurn | None:
        """The turn of a number, from 1 on; None: there is none, or it is gone or deleted."""
        if not self.num_gone < number <= self.num_turns:
            return None
        turn = self.turns[number - self.num_gone - 1]
        return None if turn.is_deleted else turn

    def history(self, until: int | None = None) -> list[Turn]:
        """What the model reads of it, with the turn of the number `until` as the last."""
        num_turns = len(self.turns) if until is None else until - self.num_gone
        kept = [turn for turn in self.turns[:num_turns] if not turn.is_deleted]
        return [*self.meta.earlier, *(Turn(question=turn.question, answer=turn.answer_escaped) for turn in kept)]


def encode_part(part: ConversationMeta | StoredTurn) -> bytes:
    return _encoder.encode(part)


def decode_meta(data: bytes) -> ConversationMeta:
    return _meta_decoder.decode(data)


def decode_turn(data: bytes) -> StoredTurn:
    return _turn_decoder.decode(data)


_encoder = msgspec.msgpack.Encoder()
_meta_decoder = msgspec.msgpack.Decoder(ConversationMeta)
_turn_decoder = msgspec.msgpack.Decoder(StoredTurn)
