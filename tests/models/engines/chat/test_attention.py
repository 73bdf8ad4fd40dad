"""A request's attention over its slots, in one run or in several, alone or beside others."""

import math
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F

from models.engines.chat.attention import GATHERED_ELEMENTS, GatheredRequests, GroupedAttention, attend
from models.engines.chat.kv_pool import KVPool, SlotTable
from models.networks.cpm_bee.config import CPMBeeConfig


@pytest.mark.parametrize("runs", [[(10, 40)], [(32, 48), (0, 9), (50, 55)], [(3, 4), (9, 38)]])
def test_it_is_that_of_the_slots_put_together(runs: list[tuple[int, int]]) -> None:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    heads, rows, width = 4, 3, 16
    keys, values, queries = draw(64, heads, width), draw(64, heads, width), draw(heads, rows, width)
    slots = [slot for first, end in runs for slot in range(first, end)]
    bias = draw(heads, rows, len(slots))
    bias[:, 1, 5:9] = -math.inf
    expected = F.scaled_dot_product_attention(
        queries, keys[slots].transpose(0, 1), values[slots].transpose(0, 1), attn_mask=bias
    )
    torch.testing.assert_close(attend(queries, keys, values, runs, bias), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-6), (torch.float16, 5e-3)])
def test_short_requests_are_attended_together_as_each_alone(dtype: torch.dtype, limit: float) -> None:
    """Of unlike numbers of rows, prompt tokens and answer slots, lying in several runs of the pool."""
    generator = torch.Generator().manual_seed(1)
    config = CPMBeeConfig(vocab_size=40, dim_model=32, dim_ff=32, num_layers=1, num_heads=4, dim_head=16)
    pool = KVPool(config, 12, dtype, torch.device("cpu"))
    for kept in (*pool.keys, *pool.values):
        kept.normal_(generator=generator)
    by_distance = torch.randn(8, 4, generator=generator).to(dtype)
    by_distance[0] = -math.inf
    requests = []
    shapes = (([0, 1, 2], 20, 7, [4, 5]), ([3], 37, 1, [9, 2, 3]), ([4, 5], 9, 12, [11, 0]))
    for rows, prompt, answer, blocks in shapes:
        table = SlotTable(pool.allocator)
        table.blocks = blocks
        requests.append(Request(table, prompt, torch.randn(4, prompt, generator=generator).to(dtype), rows, answer))
    assert [len(one.table.runs(one.prompt_length + one.num_answer_slots)) for one in requests] == [1, 2, 2]
    distances = torch.zeros(6, 15, dtype=torch.int64)  # wider than any answer
    for one in requests:
        seen = torch.randint(0, 8, (len(one.rows), one.num_answer_slots), generator=generator)
        distances[one.rows, : one.num_answer_slots] = seen
    queries = torch.randn(4, 6, 16, generator=generator).to(dtype)

    together = GatheredRequests(requests, by_distance, distances).attend(queries, pool.keys[0], pool.values[0])

    for one in requests:
        to_answer = by_distance[distances[one.rows, : one.num_answer_slots]].permute(2, 0, 1)
        bias = torch.cat([one.to_prompt[:, None].expand(-1, len(one.rows), -1), to_answer], dim=-1)
        runs = one.table.runs(one.prompt_length + one.num_answer_slots)
        alone = attend(queries[:, one.rows], pool.keys[0], pool.values[0], runs, bias)
        torch.testing.assert_close(together[:, one.rows], alone, rtol=max(limit, 1e-5), atol=limit)


def test_requests_of_as_many_rows_are_attended_together_as_each_alone() -> None:
    generator = torch.Generator().manual_seed(2)
    config = CPMBeeConfig(vocab_size=40, dim_model=32, dim_ff=32, num_layers=1, num_heads=4, dim_head=16)
    pool = KVPool(config, 8, torch.float32, torch.device("cpu"))
    for kept in (*pool.keys, *pool.values):
        kept.normal_(generator=generator)
    requests = []
    for rows, prompt, answer in (([0, 1], 20, 3), ([2, 3], 11, 5)):
        table = SlotTable(pool.allocator)
        table.grow(prompt + answer)
        requests.append(Request(table, prompt, torch.randn(4, prompt, generator=generator), rows, answer))
    by_distance = torch.randn(8, 4, generator=generator)
    distances = torch.randint(1, 8, (4, 5), generator=generator)
    distances[:2, 3:] = 0
    by_distance[0] = -math.inf
    queries = torch.randn(4, 4, 16, generator=generator)
    together = GatheredRequests(requests, by_distance, distances).attend(queries, pool.keys[0], pool.values[0])
    for one in requests:
        to_answer = by_distance[distances[one.rows, : one.num_answer_slots]].permute(2, 0, 1)
        bias = torch.cat([one.to_prompt[:, None].expand(-1, 2, -1), to_answer], dim=-1)
        runs = one.table.runs(one.prompt_length + one.num_answer_slots)
        alone = attend(queries[:, one.rows], pool.keys[0], pool.values[0], runs, bias)
        torch.testing.assert_close(together[:, one.rows], alone, rtol=1e-5, atol=1e-6)


def test_long_requests_are_attended_where_they_lie() -> None:
    """A copy of theirs would cost more than it saves."""
    config = CPMBeeConfig(vocab_size=40, dim_model=32, dim_ff=32, num_layers=1, num_heads=4, dim_head=16)
    pool = KVPool(config, 80, torch.float32, torch.device("cpu"))
    by_distance = torch.randn(8, 4)

    def taken(prompt: int) -> bool:
        requests = []
        for row in range(2):
            table = SlotTable(pool.allocator)
            table.grow(prompt + 1)
            requests.append(Request(table, prompt, torch.randn(4, prompt), [row], 1))
        attention = GroupedAttention(pool, by_distance)
        attention.begin(requests, torch.ones(2, 1, dtype=torch.int64), torch.tensor([0, 1]))
        for request in requests:
            request.table.free()
        return attention._gathered is not None

    longest = GATHERED_ELEMENTS // (4 * 16)
    assert taken(longest - 1) and not taken(longest)


@dataclass
class Request:
    table: SlotTable
    prompt_length: int
    to_prompt: torch.Tensor
    rows: list[int]
    num_answer_slots: int
