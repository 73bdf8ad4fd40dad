"""Sums, broadcasts and gathers of ranks, and what happens without one of them."""

import time
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from models.engines.chat.parallel.group import Group, join, leave
from models.networks.cpm_bee.sharding import Shard


def test_members_compute_together(in_ranks: Any) -> None:
    def work(group: Group) -> tuple[Any, ...]:
        rank = group.shard.rank
        mine = torch.full((2, 3), float(rank + 1)).t()  # not contiguous
        summed, first = group.sum(mine), group.broadcast(torch.full((2,), float(rank)))
        return summed.tolist(), first.tolist(), [x.tolist() for x in group.gather(torch.tensor([rank, 7]))]

    results = in_ranks(3, work)
    assert [result[0] for result in results] == [[[6.0, 6.0]] * 3] * 3
    assert [result[1] for result in results] == [[0.0, 0.0]] * 3
    assert [result[2] for result in results] == [[[0, 7], [1, 7], [2, 7]], [], []]


def test_a_process_joins_leaves_and_joins_again(tmp_path: Path) -> None:
    for name in ("first", "second"):
        group = join(Shard(0, 1), torch.device("cpu"), tmp_path / name, 5.0)
        assert group.sum(torch.ones(2)).tolist() == [1.0, 1.0]
        leave()
    assert not dist.is_initialized()
    leave()


@pytest.mark.slow
def test_nobody_waits_for_ever(tmp_path: Path) -> None:
    started_s = time.monotonic()
    with pytest.raises((RuntimeError, dist.DistStoreError)):
        join(Shard(0, 2), torch.device("cpu"), tmp_path / "store", 1.0)
    assert time.monotonic() - started_s < 30
    leave()
