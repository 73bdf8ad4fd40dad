"""Whether the kernel gives on this device what the plain way gives: a made-up step by both.

H heads, R rows, Dh head width.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from models.engines.chat.answer_slots import AnswerSlots
from models.engines.chat.attention import GroupedAttention
from models.engines.chat.kv_pool import BlockAllocator, KVPool, SlotTable, blocks_of
from models.networks.cpm_bee.config import CPMBeeConfig

LIMITS = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 1e-1}  # of values drawn with variance 1
MAX_DISTANCE = 32


@dataclass
class MadeUpRequest:
    """A request in the middle of its answer; implements attention.AttendedRequest."""

    table: SlotTable
    prompt_length: int
    to_prompt: Tensor
    num_answer_slots: int
    rows: list[int]


@dataclass
class MadeUpStep:
    """What attention is given in a step, drawn at random."""

    pool: KVPool
    by_distance: Tensor
    requests: list[MadeUpRequest]
    distances: Tensor
    places: Tensor
    queries: Tensor  # (H, R, Dh)
    keys: Tensor
    values: Tensor

    @classmethod
    def draw(
        cls,
        num_heads: int,
        dim_head: int,
        dtype: torch.dtype,
        device: torch.device,
        seed: int,
        sizes: list[tuple[int, int, int]] | None = None,
    ) -> "MadeUpStep":
        """Up to 8 requests of up to 5 beams, 300 prompt tokens and 70 answer tokens, or such as are given."""
        generator = torch.Generator().manual_seed(seed)

        def count(low: int, high: int) -> int:
            return int(torch.randint(low, high + 1, (), generator=generator))

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator).to(dtype).to(device)

        sizes = sizes or [(count(1, 5), count(1, 300), count(0, 70)) for _ in range(count(1, 8))]
        num_blocks = sum(blocks_of(prompt + beams * (tokens + 1)) for beams, prompt, tokens in sizes) + 4
        config = CPMBeeConfig(8, dim_model=8, dim_ff=8, num_heads=num_heads, dim_head=dim_head, num_layers=1)
        pool = KVPool(config, num_blocks, dtype, device, is_by_head=False)
        pool.keys[0].copy_(draw(*pool.keys[0].shape))
        pool.values[0].copy_(draw(*pool.values[0].shape))
        by_distance = F.pad(draw(MAX_DISTANCE + 1, num_heads), (0, 0, 1, 0), value=-torch.inf)

        requests: list[MadeUpRequest] = []
        pasts: list[list[int]] = []
        places: list[int] = []
        for beams, prompt, tokens in sizes:
            first_row = len(pasts)
            answer = AnswerSlots(beams)
            own: list[list[int]] = [[] for _ in range(beams)]
            for _ in range(tokens + 1):
                parents = [count(0, beams - 1) for _ in range(beams)]
                own = [[*own[parent], slot] for parent, slot in zip(parents, answer.feed(parents), strict=True)]
            pasts += own
            to_prompt = draw(num_heads, prompt).masked_fill(torch.arange(prompt, device=device) % 7 == 6, -torch.inf)
            rows = list(range(first_row, first_row + beams))
            table = _table(pool.allocator, prompt + answer.size, count(0, 1) == 1)
            requests.append(MadeUpRequest(table, prompt, to_prompt, answer.size, rows))
            places += [table.slot(prompt + past[-1]) for past in own]

        width = max(request.num_answer_slots for request in requests)
        distances = torch.zeros(len(pasts), width, dtype=torch.int64)
        for row, past in enumerate(pasts):
            distances[row, past] = torch.arange(len(past), 0, -1).clamp(max=MAX_DISTANCE + 1)
        queries, keys, values = (draw(num_heads, len(pasts), dim_head) for _ in range(3))
        return cls(
            pool,
            by_distance,
            requests,
            distances.to(device),
            torch.tensor(places, device=device),
            queries,
            keys,
            values,
        )

    def grouped(self) -> Callable[[], Tensor]:
        """Attention by the plain way, begun: it gives (H, R, Dh)."""
        attention = GroupedAttention(self.pool, self.by_distance)
        attention.begin(self.requests, self.distances, self.places)
        return lambda: attention.attend(0, self.queries, self.keys, self.values)

    def paged(self) -> Callable[[], Tensor]:
        """Attention by the kernel, begun: it gives (H, R, Dh)."""
        from models.engines.chat.paged.attention import PagedAttention  # needs Triton

        attention = PagedAttention(self.pool, self.by_distance)
        blank = torch.zeros_like(self.places)
        attention.begin(self.requests, self.distances, self.places, blank, blank)
        num_rows = self.queries.shape[1]
        padding = attention.buffers.num_rows - num_rows
        queries, keys, values = (F.pad(states, (0, 0, 0, padding)) for states in (self.queries, self.keys, self.values))
        return lambda: attention.attend(0, queries, keys, values)[:, :num_rows]


def largest_error(num_heads: int, dim_head: int, dtype: torch.dtype, device: torch.device) -> float:
    """Of a step with one request, whose keys are read in parts, and of one with many."""
    with torch.inference_mode():
        worst = 0.0
        for sizes in ([(3, 300, 20)], [(3, 20 + number, number) for number in range(16)]):
            step = MadeUpStep.draw(num_heads, dim_head, dtype, device, seed=0, sizes=sizes)
            worst = max(worst, float((step.paged()().float() - step.grouped()().float()).abs().max()))
        return worst


def _table(allocator: BlockAllocator, num_slots: int, is_scattered: bool) -> SlotTable:
    """Slots of a request, in one run or in several."""
    table = SlotTable(allocator)
    if is_scattered:
        table.grow(num_slots // 2)
        table.blocks.reverse()
    table.grow(num_slots)
    return table
