"""What a rank loads of a checkpoint."""

import msgspec
import pytest
import torch

from models.checkpoints.loading import LoadedChat
from models.engines.chat.kv_pool import BLOCK_SLOTS, slot_bytes
from models.engines.chat.parallel.share import load_share, share_blocks
from models.engines.packed_linear import PackedLinear
from models.jobs import EngineConfig
from models.networks.cpm_bee.sharding import Shard


@pytest.mark.slow
def test_each_rank_holds_its_share_and_rank_0_the_tower(config: EngineConfig, loaded: LoadedChat) -> None:
    first, second = (load_share(config, Shard(rank, 2)) for rank in range(2))
    assert not first.model.query_tokens.is_meta and second.model.query_tokens.is_meta
    assert isinstance(first.model.projector[0], PackedLinear)
    for share in (first, second):
        llm = share.model.llm
        assert llm.config.num_heads == 2 and llm.position_bias.weight.shape[1] == 2
        joined = llm.blocks[0].attention.joined
        assert isinstance(joined, PackedLinear) and (joined.in_features, joined.out_features) == (32, 3 * 2 * 16)
    llm = loaded.model.llm
    assert llm.embedding_divisor is not None
    rows = torch.cat([share.model.llm.embedding.weight for share in (first, second)])
    assert rows.equal(llm.embedding.weight / llm.embedding_divisor)
    assert first.fingerprint == second.fingerprint


def test_blocks_are_counted_in_the_shares_own_heads(config: EngineConfig) -> None:
    llm = load_share(config, Shard(1, 2)).model.llm
    of_a_slot = slot_bytes(llm.config, torch.float32)
    assert of_a_slot == 2 * 2 * 2 * 16 * 4
    assert share_blocks(llm, msgspec.structs.replace(config, kv_bytes=10 * BLOCK_SLOTS * of_a_slot)) == 10
