"""What the kernel is told of a step: padded rows, a table of requests, buffers that stay where they are."""

import pytest
import torch

from models.engines.chat.paged import kernels
from models.engines.chat.paged.attention import PagedAttention, padded_rows, request_table
from models.engines.chat.paged.self_check import MadeUpStep

CPU = torch.device("cpu")


def _step(*sizes: tuple[int, int, int], seed: int = 0) -> MadeUpStep:
    return MadeUpStep.draw(1, 16, torch.float32, CPU, seed, list(sizes))


@pytest.mark.parametrize(("rows", "padded"), [(1, 1), (3, 4), (4, 4), (17, 24), (190, 192), (256, 256), (257, 512)])
def test_rows_are_padded(rows: int, padded: int) -> None:
    assert padded_rows(rows) == padded


def test_the_table_names_rows_slots_and_places() -> None:
    step = _step((3, 20, 2), (1, 40, 0))
    first, second = step.requests
    width = step.distances.shape[1]
    table, blocks = request_table(step.requests, width)
    num_slots = 20 + first.num_answer_slots
    assert table == [
        [0, 3, num_slots, 20, 0, 0, 0, width],
        [3, 1, 41, 40, len(first.table.blocks), 20, 3 * width, width],
    ]
    assert blocks == first.table.blocks + second.table.blocks
    assert len(table[0]) == kernels.COLUMNS.value


def test_buffers_stay_until_a_step_outgrows_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.engines.chat.paged.attention.ANSWER_SLOTS", 8)
    steps = [_step((3, 20, 0)), _step((1, 9, 5), (2, 20, 1)), _step((4, 9, 40))]
    attention = PagedAttention(steps[2].pool, steps[2].by_distance)
    seen = []
    for step in steps:
        blank = torch.zeros_like(step.places)
        attention.begin(step.requests, step.distances, step.places, blank, blank)
        seen.append(attention.buffers)
    assert seen[0] is seen[1] and seen[1] is not seen[2]
    assert [buffers.num_rows for buffers in seen] == [4, 4, 4]


def test_what_an_earlier_step_left_is_padding() -> None:
    """Rows beyond a step's own write no keys and belong to no request."""
    step, smaller = _step((4, 20, 3)), _step((3, 20, 0))
    attention = PagedAttention(step.pool, step.by_distance)
    for one in (step, smaller):
        blank = torch.ones_like(one.places)
        attention.begin(one.requests, one.distances, one.places, blank, blank)
    buffers = attention.buffers
    assert buffers.places.tolist() == [*smaller.places.tolist(), -1]
    assert buffers.ids.tolist() == buffers.subs.tolist() == [1, 1, 1, 0]
    assert buffers.requests[:, 1].tolist() == [3, 0, 0, 0]
