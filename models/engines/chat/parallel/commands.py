"""What rank 0 tells the others, one command after the other, each as msgpack of a typed struct."""

import socket
import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields

import msgspec
import torch
from torch import Tensor

from models.engines.chat.prefill import PromptRows
from models.jobs import EngineConfig
from models.networks.cpm_bee.packing import PackedBatch


class Command(msgspec.Struct, frozen=True, tag=True):
    """Base of all that passes between the ranks."""


class Load(Command, frozen=True):
    """The first one: load your share."""

    config: EngineConfig
    rank: int
    size: int
    store_file: str  # where the ranks find one another
    timeout_s: float  # of a collective


class Loaded(Command, frozen=True):
    """Its answer."""


class Join(Command, frozen=True):
    """All have loaded: meet."""


class MakePool(Command, frozen=True):
    """Keys and values anew, for requests that come."""

    num_blocks: int


class CountBlocks(Command, frozen=True):
    """How many would your memory hold?"""


class BlocksCounted(Command, frozen=True):
    """Its answer."""

    num_blocks: int


class Prompt(msgspec.Struct, frozen=True):
    """One of those to be read together."""

    tensors: dict[str, tuple[list[int], bytes]]  # of its PackedBatch, int64: shape and values
    image_bounds: list[list[tuple[int, int]]]
    segment: int
    slots: list[int]
    num_image_tokens: int  # whose embeddings come by a broadcast; 0: none


class BeginPrompts(Command, frozen=True):
    """Prompts to read; what was begun before them and not finished is forgotten."""

    prompts: list[Prompt]


class ReadSlice(Command, frozen=True):
    """The next slice of them."""


class TakeRows(Command, frozen=True):
    """Rows of the batch for the next of the prompts that were read last."""

    rows: list[int]


class Span(msgspec.Struct, frozen=True, array_like=True):
    """A request's part of a step: its first row names it."""

    row: int
    num_answer_slots: int
    more_blocks: list[int]  # of the pool, beyond those that were told


class Feed(Command, frozen=True):
    """A token of every row of these requests."""

    spans: list[Span]
    tokens: list[list[int]]  # see DecodingBatch.feed


class Keep(Command, frozen=True):
    """The last step gave choices: enter it into the state."""


class Broken(Command, frozen=True):
    """A rank's last word."""

    reason: str


Message = (
    Load
    | Loaded
    | Join
    | MakePool
    | CountBlocks
    | BlocksCounted
    | BeginPrompts
    | ReadSlice
    | TakeRows
    | Feed
    | Keep
    | Broken
)

_LENGTH = struct.Struct("!I")
_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


class Channel:
    """Commands over one end of a pair of sockets: each its length in four bytes, then itself."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._incoming = end.makefile("rb")

    def send(self, message: Message) -> None:
        """Raises OSError where nobody reads any more."""
        data = _encoder.encode(message)
        self._end.sendall(_LENGTH.pack(len(data)) + data)

    def receive(self) -> Message | None:
        """Waits for the next one; None: there will be none."""
        data = b""
        if not self._incoming.closed:
            with suppress(OSError):
                head = self._incoming.read(_LENGTH.size)
                data = self._incoming.read(*_LENGTH.unpack(head)) if len(head) == _LENGTH.size else b""
        if data:
            return _decoder.decode(data)
        self._incoming.close()
        return None

    def close(self) -> None:
        """Ends the waiting of both sides, too."""
        with suppress(OSError):  # the other side was sooner
            self._end.shutdown(socket.SHUT_RDWR)
        self._end.close()


def begin_prompts(prompts: Sequence[PromptRows]) -> BeginPrompts:
    return BeginPrompts([_prompt(one) for one in prompts])


def _prompt(rows: PromptRows) -> Prompt:
    batch = rows.batch
    tensors = {
        field.name: (list(value.shape), value.cpu().contiguous().numpy().tobytes())
        for field in fields(batch)
        if isinstance(value := getattr(batch, field.name), Tensor)
    }
    return Prompt(
        tensors=tensors,
        image_bounds=batch.image_bounds,
        segment=rows.segment,
        slots=list(rows.slots),
        num_image_tokens=0 if rows.embeddings is None else len(rows.embeddings),
    )


def packed_batch(prompt: Prompt, device: torch.device) -> PackedBatch:
    """What another rank's model reads; which texts its answers stand for is known to rank 0 alone."""
    tensors = {
        name: torch.frombuffer(bytearray(data), dtype=torch.int64).view(shape)
        if data
        else torch.zeros(shape, dtype=torch.int64)
        for name, (shape, data) in prompt.tensors.items()
    }
    batch = PackedBatch(
        **tensors, image_bounds=prompt.image_bounds, predict_segments=[], decode_tables=[], padding="left"
    )
    return batch.to(device)
