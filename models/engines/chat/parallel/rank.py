"""A rank that follows: it loads its share, then does what rank 0 tells it, until its end of the socket is closed.

It never decides anything. What fails here ends the process, since the others wait for it; rank 0 hears why.
"""

import logging
from pathlib import Path

import torch

from models.engines.chat.kv_pool import KVPool
from models.engines.chat.parallel.batch import FollowingBatch
from models.engines.chat.parallel.commands import (
    BeginPrompts,
    BlocksCounted,
    Broken,
    Channel,
    CountBlocks,
    Feed,
    Join,
    Keep,
    Load,
    Loaded,
    MakePool,
    Message,
    Prompt,
    ReadSlice,
    TakeRows,
    packed_batch,
)
from models.engines.chat.parallel.group import Group, join
from models.engines.chat.parallel.layers import connect
from models.engines.chat.parallel.ranks import next_slice
from models.engines.chat.parallel.share import load_share, share_blocks
from models.engines.chat.prefill import PromptRows, ReadPrompt, Slices, prompt_slices
from models.networks.cpm_bee.sharding import Shard

logger = logging.getLogger(__name__)


class Rank:
    """One rank's share of a model and of the requests' state."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._shard = Shard(load.rank, load.size)
        loaded = load_share(load.config, self._shard)
        self._model, self._tokenizer = loaded.model, loaded.tokenizer
        self._group: Group | None = None
        self._slices: Slices | None = None
        self._read: list[ReadPrompt] = []  # last, and without rows

    def do(self, command: Message) -> Message | None:
        """Returns the answer, where there is one."""
        llm = self._model.llm
        match command:
            case Feed():
                self._batch.feed(command)
            case Keep():
                self._batch.keep()
            case ReadSlice():
                assert self._slices is not None, "no prompt was begun"
                self._read = next_slice(self._slices) or []
            case BeginPrompts(prompts):
                self._slices = prompt_slices(self._model, [self._rows(one) for one in prompts], self._pool)
            case TakeRows(rows):
                self._batch.begin(rows, self._read.pop(0).to_prompt)
            case MakePool(num_blocks):
                self._make_pool(num_blocks)
            case CountBlocks():
                return BlocksCounted(share_blocks(llm, self._load.config))
            case Join():
                device = llm.embedding.weight.device
                self._group = join(self._shard, device, Path(self._load.store_file), self._load.timeout_s)
                connect(llm, self._group)
            case _:
                raise ValueError(f"rank {self._shard.rank} was told {type(command).__name__}")
        return None

    def _make_pool(self, num_blocks: int) -> None:
        llm, weight = self._model.llm, self._model.llm.embedding.weight
        self._slices, self._read = None, []
        self._pool = KVPool(llm.config, num_blocks, weight.dtype, weight.device)
        self._batch = FollowingBatch(llm, self._pool, self._tokenizer.bos_id, self._tokenizer.unk_id)

    def _rows(self, prompt: Prompt) -> PromptRows:
        assert self._group is not None, "join comes first"
        weight = self._model.llm.embedding.weight
        embeddings = None
        if prompt.num_image_tokens:
            shape = (prompt.num_image_tokens, self._model.llm.config.dim_model)
            embeddings = self._group.broadcast(torch.empty(shape, dtype=weight.dtype, device=weight.device))
        return PromptRows(packed_batch(prompt, weight.device), prompt.segment, embeddings, prompt.slots)


def follow(channel: Channel) -> int:
    """A rank's life. Returns its exit code."""
    try:
        load = channel.receive()
        if not isinstance(load, Load):
            return 0 if load is None else 1
        rank = Rank(load)
        channel.send(Loaded())
        with torch.inference_mode():
            while (command := channel.receive()) is not None:
                answer = rank.do(command)
                if answer is not None:
                    channel.send(answer)
        return 0
    except OSError:  # rank 0 is gone
        return 1
    except Exception as error:
        channel.send(Broken(" ".join(f"{type(error).__name__}: {error}".split())[:300]))
        return 1
    finally:
        channel.close()
