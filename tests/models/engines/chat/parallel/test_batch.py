"""What rank 0's batch says of requests, and what another rank keeps of it. Whole answers are in test_engine."""

from collections.abc import Iterator

import msgspec
import pytest
import torch

from models.checkpoints.loading import LoadedChat
from models.engines.chat.kv_pool import KVPool
from models.engines.chat.parallel.batch import FollowedRequest, FollowingBatch, LeadingBatch
from models.engines.chat.parallel.commands import Feed, Span
from models.engines.chat.parallel.ranks import Ranks, RanksLost
from models.jobs import EngineConfig


@pytest.fixture
def ranks(config: EngineConfig) -> Iterator[Ranks]:
    """Rank 0 without others."""
    alone = Ranks(msgspec.structs.replace(config, devices=("cpu",)))
    yield alone
    alone.close()


def pool(loaded: LoadedChat) -> KVPool:
    return KVPool(loaded.config.llm, 4, torch.float32, torch.device("cpu"))


def test_blocks_are_told_once(loaded: LoadedChat, ranks: Ranks) -> None:
    batch = LeadingBatch(loaded.model.llm, pool(loaded), 0, 1, ranks)
    rows = batch.state.take(3)
    request = FollowedRequest(rows, 5, torch.zeros(4, 5), num_answer_slots=2)
    request.table.blocks = [7, 8]
    assert batch._span(request) == Span(rows[0], 2, [7, 8])
    assert batch._span(request) == Span(rows[0], 2, [])
    request.table.blocks.append(3)
    assert batch._span(request) == Span(rows[0], 2, [3])
    batch.state.give_back(rows)
    assert batch.state.take(3)[0] == rows[-1]
    again = FollowedRequest(batch.state.take(1), 5, torch.zeros(4, 5))
    again.table.blocks = [1]
    assert batch._span(again).more_blocks == [1]


@pytest.mark.slow
@torch.inference_mode()
def test_a_step_that_fails_in_its_midst_is_the_end(loaded: LoadedChat, ranks: Ranks) -> None:
    """The others are somewhere in it, and would wait for ever."""
    batch = LeadingBatch(loaded.model.llm, pool(loaded), 0, 1, ranks)
    request = FollowedRequest(batch.state.take(1), 5, torch.zeros(4, 5), num_answer_slots=1)
    request.table.blocks = [0]
    places = [request.rows, [3], [0], [0], [0], [5]]
    assert batch.feed([request], places).logits.shape == (1, loaded.config.llm.vocab_size)
    with pytest.raises(RanksLost, match="IndexError"):
        batch.feed([request], [*places[:-1], [10_000]])
    assert "rank 0 cannot go on beside the others" in ranks.failure


@torch.inference_mode()
def test_a_row_s_next_request_takes_its_place(loaded: LoadedChat) -> None:
    batch = FollowingBatch(loaded.model.llm, pool(loaded), 0, 1)
    for length, blocks in ((5, [0]), (20, [1, 3])):
        batch.begin([2], torch.zeros(4, length))
        place = blocks[length // 16] * 16 + length % 16
        batch.feed(Feed(spans=[Span(2, 1, blocks)], tokens=[[2], [3], [0], [0], [0], [place]]))
        batch.keep()
        request = batch._requests[2]
        assert (request.prompt_length, request.table.blocks) == (length, blocks)
    assert list(batch._requests) == [2]
    with pytest.raises(AssertionError, match="nothing was fed"):
        batch.keep()
