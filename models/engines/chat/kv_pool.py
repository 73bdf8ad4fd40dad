"""One pool of keys and values for all requests, handed out in blocks.

N slots, one token each; H heads, Dh head width.
"""

from bisect import bisect_left

import torch

from models.engines.free_memory import free_bytes
from models.jobs import EngineConfig
from models.networks.cpm_bee.config import CPMBeeConfig

BLOCK_SLOTS = 16
LONGEST_SLOTS = 3000 + 514 + 2  # of a request at the defaults of ChatGeneration
CPU_SHARE = 0.25  # of free memory: other processes live there too


class BlockAllocator:
    """Numbers of blocks, taken and given back. Neighbours are taken where it can be, for they are read as one run."""

    def __init__(self, num_blocks: int) -> None:
        self.num_blocks = num_blocks
        self.num_free = num_blocks
        self._runs: list[tuple[int, int]] = [(0, num_blocks)] if num_blocks else []  # (first, end), sorted, apart

    def take(self, count: int, after: int | None = None) -> list[int]:
        """`count` blocks, if it can be those that follow block `after`.

        Raises:
            ValueError: fewer are free.
        """
        if count > self.num_free:
            raise ValueError(f"{count} blocks of {self.num_free} that are free")
        taken: list[int] = []
        while len(taken) < count:
            wanted = count - len(taken)
            place = self._following(taken[-1] if taken else after)
            if place is None:
                place = max(range(len(self._runs)), key=lambda number: self._length(number))
                first, end = self._runs[place]
                # In the middle, so that there is room to grow behind it and behind what lies before it.
                start = first + max(end - first - wanted, 0) // 2
            else:
                start, end = self._runs[place]
            taken.extend(self._cut(place, start, min(wanted, end - start)))
        self.num_free -= count
        return taken

    def give_back(self, blocks: list[int]) -> None:
        for block in blocks:
            place = bisect_left(self._runs, (block, block))
            before = self._runs[place - 1] if place else None
            after = self._runs[place] if place < len(self._runs) else None
            first, end = block, block + 1
            if after is not None and after[0] == end:
                end = after[1]
                del self._runs[place]
            if before is not None and before[1] == first:
                first = before[0]
                place -= 1
                del self._runs[place]
            self._runs.insert(place, (first, end))
        self.num_free += len(blocks)

    def _length(self, place: int) -> int:
        first, end = self._runs[place]
        return end - first

    def _following(self, block: int | None) -> int | None:
        """Place of the free run that begins behind `block`."""
        if block is None:
            return None
        place = bisect_left(self._runs, (block + 1, 0))
        return place if place < len(self._runs) and self._runs[place][0] == block + 1 else None

    def _cut(self, place: int, start: int, count: int) -> range:
        first, end = self._runs[place]
        rest = [(first, start), (start + count, end)]
        self._runs[place : place + 1] = [run for run in rest if run[0] < run[1]]
        return range(start, start + count)


class SlotTable:
    """Which slots of the pool one request has: its own count from 0, prompt first, then the answer's."""

    def __init__(self, allocator: BlockAllocator) -> None:
        self._allocator = allocator
        self.blocks: list[int] = []

    @property
    def capacity(self) -> int:
        return len(self.blocks) * BLOCK_SLOTS

    def missing_blocks(self, num_slots: int) -> int:
        """Blocks to be taken before `num_slots` slots are there."""
        return max(blocks_of(num_slots) - len(self.blocks), 0)

    def grow(self, num_slots: int) -> None:
        """Takes what is missing. Raises ValueError where it is not free."""
        missing = self.missing_blocks(num_slots)
        if missing:
            self.blocks += self._allocator.take(missing, self.blocks[-1] if self.blocks else None)

    def free(self) -> None:
        self._allocator.give_back(self.blocks)
        self.blocks = []

    def slot(self, number: int) -> int:
        """The pool's slot of the request's own."""
        return self.blocks[number // BLOCK_SLOTS] * BLOCK_SLOTS + number % BLOCK_SLOTS

    def slots(self, num_slots: int) -> list[int]:
        """The pool's slots of the first `num_slots`."""
        return [slot for first, end in self.runs(num_slots) for slot in range(first, end)]

    def runs(self, num_slots: int) -> list[tuple[int, int]]:
        """The pool's slots of the first `num_slots`, as (first, end) of stretches that lie together."""
        runs: list[tuple[int, int]] = []
        for number in range(0, num_slots, BLOCK_SLOTS):
            first = self.slot(number)
            end = first + min(BLOCK_SLOTS, num_slots - number)
            if runs and runs[-1][1] == first:
                runs[-1] = (runs[-1][0], end)
            else:
                runs.append((first, end))
        return runs


class KVPool:
    """Keys and values (N, H, Dh) of each layer. A CPU's memory is taken from the system as slots are first written.

    Args:
        is_by_head: whether each head's lie together, (H, N, Dh) in memory, as a CPU's attention multiplies head by head
            and a GPU's kernel does not; None: as it is best on the device.
    """

    def __init__(
        self,
        config: CPMBeeConfig,
        num_blocks: int,
        dtype: torch.dtype,
        device: torch.device,
        is_by_head: bool | None = None,
    ) -> None:
        self.allocator = BlockAllocator(num_blocks)
        slots, heads, width = num_blocks * BLOCK_SLOTS, config.num_heads, config.dim_head
        is_by_head = device.type == "cpu" if is_by_head is None else is_by_head

        def layer() -> torch.Tensor:
            if is_by_head:
                return torch.empty((heads, slots, width), dtype=dtype, device=device).transpose(0, 1)
            return torch.empty((slots, heads, width), dtype=dtype, device=device)

        self.keys = [layer() for _ in range(config.num_layers)]
        self.values = [layer() for _ in range(config.num_layers)]

    @property
    def num_slots(self) -> int:
        return self.allocator.num_blocks * BLOCK_SLOTS


def blocks_of(num_slots: int) -> int:
    """Blocks that hold so many slots."""
    return -(-num_slots // BLOCK_SLOTS)


def slot_bytes(config: CPMBeeConfig, dtype: torch.dtype) -> int:
    """Keys and values of one token in all layers: 0.75 MiB at the published sizes in half precision (SPEC §12)."""
    return 2 * config.num_layers * config.num_heads * config.dim_head * dtype.itemsize


def gpu_share_bytes(free: int, total: int, utilization: float, longest_request: int) -> int:
    """Bytes of a GPU for the pool, all in bytes: up to `utilization` of it; where weights leave less than the longest
    request takes, of what is left as much as that needs, but for a tenth."""
    share = free - int((1 - utilization) * total)
    return max(share, min(int(free * 0.9), longest_request))


def pool_blocks(config: CPMBeeConfig, dtype: torch.dtype, device: torch.device, wanted: EngineConfig) -> int:
    """Blocks of a worker's pool: `kv_bytes`, or a share of what is free, and no more than all jobs can ever take."""
    block_bytes = slot_bytes(config, dtype) * BLOCK_SLOTS
    if wanted.kv_bytes:
        return max(wanted.kv_bytes // block_bytes, 1)
    if device.type == "cuda":
        total_bytes = torch.cuda.get_device_properties(device).total_memory
        longest_bytes = blocks_of(LONGEST_SLOTS) * block_bytes
        available_bytes = gpu_share_bytes(free_bytes(device), total_bytes, wanted.memory_utilization, longest_bytes)
    else:
        available_bytes = int(free_bytes(device) * CPU_SHARE)
    return max(min(available_bytes // block_bytes, blocks_of(LONGEST_SLOTS) * wanted.max_jobs), 1)
