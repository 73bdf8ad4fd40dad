"""A request's attention over its slots, in one run or in several."""

import math

import pytest
import torch
import torch.nn.functional as F

from models.engines.chat.attention import attend


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
