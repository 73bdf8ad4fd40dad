"""A rank's share of a Chat model, loaded and laid out as its device likes it."""

from pathlib import Path

import torch

from models.checkpoints.loading import LoadedChat, load_chat
from models.engines.chat.kv_pool import pool_blocks
from models.engines.device import usable_device
from models.engines.packed_linear import pack_language_model, pack_linears
from models.jobs import EngineConfig
from models.networks.cpm_bee.folding import fold_scalings
from models.networks.cpm_bee.model import CPMBee
from models.networks.cpm_bee.sharding import Shard


def load_share(config: EngineConfig, shard: Shard) -> LoadedChat:
    """The language model's share, folded and packed; the vision tower has weights in rank 0 alone.

    Raises:
        CheckpointError, DeviceUnusable: as `create_engine`.
    """
    device = usable_device(config.devices[shard.rank])
    vocabulary = Path(config.vocabulary) if config.vocabulary else None
    if device.type == "cpu":  # the ranks share the processor as well
        torch.set_num_threads(max(torch.get_num_threads() // shard.size, 1))
    dtype = getattr(torch, config.dtype)
    loaded = load_chat(Path(config.checkpoint), vocabulary, device, dtype, shard=shard)
    fold_scalings(loaded.model.llm)
    pack_language_model(loaded.model.llm)
    if shard.rank == 0:
        pack_linears(loaded.model)
    return loaded


def share_blocks(llm: CPMBee, config: EngineConfig) -> int:
    """Blocks of the pool that fit what a rank's device has left beside its share."""
    weight = llm.embedding.weight
    return pool_blocks(llm.config, weight.dtype, weight.device, config)
