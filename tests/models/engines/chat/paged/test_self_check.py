"""A kernel that is wrong is found out."""

from typing import Any

import pytest
import torch

from models.engines.chat.paged import attention
from models.engines.chat.paged.attention import PagedAttention
from models.engines.chat.paged.self_check import LIMITS, largest_error

CPU = torch.device("cpu")


@pytest.mark.slow
def test_the_kernel_is_within_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "PROGRAMS", 1)
    assert largest_error(1, 16, torch.float32, CPU) < LIMITS[torch.float32] / 10


@pytest.mark.slow
def test_a_kernel_that_forgets_the_newest_key_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "PROGRAMS", 1)
    begin = PagedAttention.begin

    def one_short(self: PagedAttention, *arguments: Any) -> None:
        begin(self, *arguments)
        self.buffers.requests[:, 2] -= 1

    monkeypatch.setattr(PagedAttention, "begin", one_short)
    assert largest_error(1, 16, torch.float32, CPU) > LIMITS[torch.float32]
