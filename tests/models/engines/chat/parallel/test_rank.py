"""A rank that follows, told by a test what rank 0 tells it: the same keys and hidden states."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from models.checkpoints.loading import load_chat
from models.engines.chat.batch import DecodingBatch
from models.engines.chat.kv_pool import KVPool
from models.engines.chat.parallel.commands import (
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
    ReadSlice,
    Span,
    TakeRows,
    begin_prompts,
)
from models.engines.chat.parallel.group import leave
from models.engines.chat.parallel.rank import Rank, follow
from models.engines.chat.parallel.ranks import next_slice
from models.engines.chat.prefill import PromptRows, prompt_slices
from models.engines.chat.prompt import build_prompt, pack_prompts
from models.jobs import EngineConfig
from models.networks.cpm_bee.folding import fold_scalings
from tests.models.engines.chat.jobs import job


@pytest.fixture
def load(config: EngineConfig, tmp_path: Path) -> Iterator[Load]:
    """Alone, it holds all."""
    yield Load(config=config, rank=0, size=1, store_file=str(tmp_path / "store"), timeout_s=5.0)
    leave()


@pytest.mark.slow
@torch.inference_mode()
def test_it_feeds_what_it_is_told(load: Load, folder: Path) -> None:
    rank = Rank(load)
    rank.do(Join())
    rank.do(MakePool(8))
    assert rank.do(CountBlocks()) == BlocksCounted(256)  # of 16 tokens: 2 x 2 layers x 4 heads x 16 x 4 bytes each

    loaded = load_chat(folder)
    model, tokenizer = loaded.model, loaded.tokenizer
    fold_scalings(model.llm)
    pool = KVPool(model.llm.config, 8, torch.float32, torch.device("cpu"))
    batch = DecodingBatch(model.llm, pool, tokenizer.bos_id, tokenizer.unk_id)
    prompt = pack_prompts([build_prompt(job(question="日 x 本" + " a" * 9, pixels=b""), tokenizer, 0)], tokenizer)
    length, segment = prompt.ids.shape[1], prompt.predict_segments[0][0][0]
    assert 32 < length < 48
    slots = [*range(16, 48), *range(80, 80 + length - 32)]  # blocks 1, 2 and 5
    short = pack_prompts([build_prompt(job(question="a", pixels=b""), tokenizer, 0)], tokenizer)
    prompts = [
        PromptRows(short, short.predict_segments[0][0][0], None, list(range(96, 96 + short.ids.shape[1]))),
        PromptRows(prompt, segment, None, slots),
    ]
    rank.do(begin_prompts(prompts))
    slices = prompt_slices(model, prompts, pool)
    while (both := next_slice(slices)) is None:
        rank.do(ReadSlice())
    rank.do(ReadSlice())
    rank.do(TakeRows([0]))
    rank.do(TakeRows([1, 4]))
    read = both[1]

    told = rank._batch._requests[1]
    torch.testing.assert_close(told.to_prompt, read.to_prompt)
    own = type(told)([1, 4], length, read.to_prompt)
    own.table.blocks = [1, 2, 5]
    batch.state.make([1, 4])
    first = 80 + length - 32  # slot of the pool for the answer's first
    steps = [
        ([[1, 4], [3, 9], [0, 0], [0, 0], [0, 1], [first, first + 1]], 2),
        ([[4, 4], [5, 8], [0, 0], [1, 1], [2, 0], [first + 2, first]], 3),  # both go on from the second
    ]
    for number, (tokens, num_slots) in enumerate(steps):
        own.num_answer_slots = num_slots
        fed = batch.feed([own], tokens)
        for _ in range(2):  # the first attempt gave no choices: nothing of it stays
            rank.do(Feed(spans=[Span(1, num_slots, [1, 2, 5] if not told.table.blocks else [])], tokens=tokens))
        assert rank._batch._fed is not None
        torch.testing.assert_close(rank._batch._fed.logits, fed.logits, rtol=1e-5, atol=1e-5)
        assert torch.equal(rank._batch._fed.positions, fed.positions), number
        rank.do(Keep())
        batch.keep(fed)


def test_it_answers_until_rank_0_leaves(load: Load) -> None:
    ours, theirs = map(Channel, socket.socketpair())
    codes: list[int] = []
    life = threading.Thread(target=lambda: codes.append(follow(theirs)))
    life.start()
    ours.send(load)
    assert ours.receive() == Loaded()
    ours.send(CountBlocks())
    assert ours.receive() == BlocksCounted(256)
    ours.close()
    life.join(10)
    assert codes == [0] and ours.receive() is None


def test_it_says_why_it_cannot_go_on(load: Load) -> None:
    ours, theirs = map(Channel, socket.socketpair())
    codes: list[int] = []
    life = threading.Thread(target=lambda: codes.append(follow(theirs)))
    life.start()
    ours.send(load)
    assert ours.receive() == Loaded()
    ours.send(Loaded())
    assert ours.receive() == Broken("ValueError: rank 0 was told Loaded")
    life.join(10)
    ours.close()
    assert codes == [1] and ours.receive() is None
