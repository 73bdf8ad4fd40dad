"""The chat engine over several devices: rank 0 schedules, searches and samples as on one, the others follow."""

import logging
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import msgspec
import torch

from models.checkpoints.loading import LoadedChat, open_checkpoint
from models.checkpoints.weights import skeleton
from models.engines.chat.engine import WARM_UP_BLOCKS, ChatEngine
from models.engines.chat.kv_pool import BLOCK_SLOTS, pool_blocks, slot_bytes
from models.engines.chat.parallel.batch import LeadingBatch
from models.engines.chat.parallel.commands import MakePool
from models.engines.chat.parallel.layers import connect
from models.engines.chat.parallel.ranks import COLLECTIVE_TIMEOUT_S, Ranks
from models.engines.chat.parallel.share import load_share, share_blocks
from models.engines.chat.prompt_reader import PromptReader
from models.engines.device import usable_device
from models.jobs import EngineConfig, Observe
from models.networks.cpm_bee.sharding import check_divisible

logger = logging.getLogger(__name__)


class ParallelChatEngine(ChatEngine):
    """Implements models.jobs.Engine as rank 0 of several."""

    def __init__(self, loaded: LoadedChat, ranks: Ranks, config: EngineConfig, observe: Observe) -> None:
        self._ranks = ranks
        self._config = config
        name = Path(config.checkpoint).stem
        super().__init__(loaded, name, config.max_jobs, observe, WARM_UP_BLOCKS, config.fold_traditional)
        self._description = msgspec.structs.replace(
            self._description,
            device=",".join(config.devices),
            parameters=sum(parameter.numel() for parameter in skeleton(loaded.config).parameters()),
        )

    @property
    def failure(self) -> str:
        """What became of another rank; empty while all is well. For who looks on while a call may hang."""
        return self._ranks.failure

    def make_pool(self, num_blocks: int) -> None:
        self._ranks.tell(MakePool(num_blocks))
        super().make_pool(num_blocks)
        tokenizer = self._loaded.tokenizer
        self._runtime = replace(self._runtime, read_prompts=self._ranks.read_prompts)
        self._reader = PromptReader(self._scheduler, self._runtime)
        self._batch = LeadingBatch(
            self._loaded.model.llm, self._runtime.pool, tokenizer.bos_id, tokenizer.unk_id, self._ranks
        )

    def all_blocks(self) -> int:
        """Blocks of a pool that every rank has memory for."""
        llm, weight = self._loaded.config.llm, self._loaded.model.llm.embedding.weight
        if self._config.kv_bytes or weight.device.type == "cpu":  # the memory is one, all heads lie in it
            return pool_blocks(llm, weight.dtype, weight.device, self._config)
        return min(share_blocks(self._loaded.model.llm, self._config), *self._ranks.count_blocks())

    def close(self) -> None:
        """Ends the other ranks."""
        self._ranks.close()


def create_parallel_engine(
    config: EngineConfig, observe: Observe, timeout_s: float = COLLECTIVE_TIMEOUT_S
) -> ParallelChatEngine:
    """As `create_engine`, over the devices of `config.devices`.

    Args:
        timeout_s: after which a rank that does not come to a collective counts as lost.

    Raises:
        ValueError: so many devices cannot share the model.
        RanksLost: one of the other ranks ended.
    """
    started_s = perf_counter()
    for device in config.devices:
        usable_device(device)
    llm = open_checkpoint(Path(config.checkpoint), "chat").config.llm
    check_divisible(llm, len(config.devices))
    ranks = Ranks(config, timeout_s)
    try:
        loaded = load_share(config, ranks.shard)
        connect(loaded.model.llm, ranks.join(loaded.model.llm.embedding.weight.device))
        engine = ParallelChatEngine(loaded, ranks, config, observe)
        loaded_s = perf_counter()
        engine.warm_up()
        engine.make_pool(num_blocks := engine.all_blocks())
    except BaseException:
        ranks.close()
        raise
    logger.info(
        "chat engine over %d devices loaded in %.1f s, warmed up in %.1f s; keys and values of %d tokens, %.2f GB",
        len(config.devices),
        loaded_s - started_s,
        perf_counter() - loaded_s,
        num_blocks * BLOCK_SLOTS,
        num_blocks * BLOCK_SLOTS * slot_bytes(llm, getattr(torch, config.dtype)) / 1e9,
    )
    return engine
