"""Blocks are taken and given back whole, and lie together where they can."""

import random

import pytest
import torch

from models.engines.chat.kv_pool import (
    BLOCK_SLOTS,
    BlockAllocator,
    KVPool,
    SlotTable,
    blocks_of,
    gpu_share_bytes,
    pool_blocks,
    slot_bytes,
)
from models.engines.free_memory import free_bytes
from models.jobs import EngineConfig
from models.networks.cpm_bee.config import CPMBeeConfig


def test_blocks_are_never_given_twice_nor_lost() -> None:
    generator = random.Random(1)
    allocator = BlockAllocator(60)
    held: list[list[int]] = []
    for _ in range(3000):
        if held and generator.random() < 0.45:
            allocator.give_back(held.pop(generator.randrange(len(held))))
        else:
            count = generator.randint(1, 9)
            if count > allocator.num_free:
                with pytest.raises(ValueError, match=f"{count} blocks of {allocator.num_free}"):
                    allocator.take(count)
                continue
            held.append(allocator.take(count, held[-1][-1] if held and generator.random() < 0.5 else None))
            assert len(held[-1]) == count
        in_use = [block for blocks in held for block in blocks]
        assert len(in_use) == len(set(in_use)) == 60 - allocator.num_free
        assert all(0 <= block < 60 for block in in_use)
    for blocks in held:
        allocator.give_back(blocks)
    assert allocator.take(60) == list(range(60)), "all is one run again"


def test_requests_that_grow_side_by_side_stay_in_one_run() -> None:
    allocator = BlockAllocator(256)
    tables = [SlotTable(allocator) for _ in range(4)]
    for size in range(100, 400, 20):
        for table in tables:
            table.grow(size)
    assert [len(table.runs(380)) for table in tables] == [1, 1, 1, 1]


def test_slots_are_counted_from_0_whatever_the_blocks_are() -> None:
    table = SlotTable(BlockAllocator(10))
    table.blocks = [7, 2, 3]
    assert table.capacity == 3 * BLOCK_SLOTS
    assert [table.slot(0), table.slot(BLOCK_SLOTS), table.slot(2 * BLOCK_SLOTS + 5)] == [112, 32, 53]
    assert table.runs(40) == [(112, 128), (32, 56)]
    assert table.runs(BLOCK_SLOTS) == [(112, 128)]
    assert table.missing_blocks(48) == 0 and table.missing_blocks(49) == 1


def test_blocks_of_slots() -> None:
    assert [blocks_of(count) for count in (0, 1, BLOCK_SLOTS, BLOCK_SLOTS + 1)] == [0, 1, 1, 2]


def test_a_token_takes_what_the_specification_says() -> None:
    """SPEC §12: 0.75 MiB at the published sizes in half precision."""
    published = CPMBeeConfig(86583, dim_model=4096, dim_ff=10240, num_layers=48, num_heads=32, dim_head=128)
    assert slot_bytes(published, torch.float16) == 0.75 * 2**20
    small = CPMBeeConfig(50, dim_model=32, dim_ff=48, num_layers=2, num_heads=2, dim_head=16, half=False)
    pool = KVPool(small, 3, torch.float32, torch.device("cpu"))
    held = sum(tensor.nbytes for tensor in (*pool.keys, *pool.values))
    assert held == slot_bytes(small, torch.float32) * pool.num_slots == slot_bytes(small, torch.float32) * 48


def test_a_slot_is_the_same_however_the_pool_lies() -> None:
    small = CPMBeeConfig(50, dim_model=32, dim_ff=48, num_layers=1, num_heads=2, dim_head=16, half=False)
    pool = KVPool(small, 3, torch.float32, torch.device("cpu"))
    by_slot = KVPool(small, 3, torch.float32, torch.device("cpu"), is_by_head=False)
    assert pool.keys[0].shape == by_slot.keys[0].shape == (48, 2, 16)
    assert by_slot.keys[0].is_contiguous() and pool.keys[0].transpose(0, 1).is_contiguous()


def test_a_gpu_is_filled_to_its_share_and_a_small_one_beyond_it() -> None:
    gigabyte = 10**9
    assert gpu_share_bytes(60 * gigabyte, 80 * gigabyte, 0.9, 3 * gigabyte) == pytest.approx(52 * gigabyte)
    assert gpu_share_bytes(3 * gigabyte, 24 * gigabyte, 0.9, 2 * gigabyte) == 2 * gigabyte, "0.6 GB is the share"
    assert gpu_share_bytes(1 * gigabyte, 24 * gigabyte, 0.9, 2 * gigabyte) == 900_000_000, "and nothing is overdrawn"


def test_a_pool_is_of_the_bytes_that_are_given_or_of_a_share_of_what_is_free() -> None:
    small = CPMBeeConfig(50, dim_model=32, dim_ff=48, num_layers=2, num_heads=2, dim_head=16, half=False)
    cpu = torch.device("cpu")
    block_bytes = BLOCK_SLOTS * slot_bytes(small, torch.float32)

    def blocks(**fields: int) -> int:
        config = EngineConfig(kind="chat", checkpoint="", **fields)
        return pool_blocks(small, torch.float32, cpu, config)

    assert blocks(kv_bytes=10 * block_bytes + 5) == 10
    assert blocks(kv_bytes=1) == 1, "a pool of nothing could take no job"
    assert blocks(max_jobs=3) == 3 * blocks_of(3516), "no more than three jobs can ever take"
    huge = EngineConfig(kind="chat", checkpoint="", max_jobs=10**9)
    assert 0 < pool_blocks(small, torch.float32, cpu, huge) * block_bytes < free_bytes(cpu) / 2
