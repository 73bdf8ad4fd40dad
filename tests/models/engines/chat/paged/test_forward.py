"""The GPU's decoding step on a CPU: whole answers by the kernels in the interpreter; what a graph is bound to."""

from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import pytest
import torch
from torch import nn
from torch.testing._internal.two_tensor import TwoTensor

from models.checkpoints.loading import LoadedChat
from models.engines.chat import batch, engine
from models.engines.chat.kv_pool import KVPool
from models.engines.chat.paged import attention
from models.engines.chat.paged.forward import PagedForward, weight_addresses
from models.jobs import ChatGeneration
from tests.models.engines.chat.jobs import MIXED, timeless


def shortened(generation: ChatGeneration) -> ChatGeneration:
    return msgspec.structs.replace(generation, max_new_tokens=5)


@pytest.mark.slow
def test_answers_are_those_of_the_plain_way(make_bench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Beams, greedy and sampled rows side by side, which join and end at different times."""
    jobs = [msgspec.structs.replace(job, generation=shortened(job.generation)) for job in MIXED[:3]]
    plain = make_bench()
    plain.finish(*jobs)
    made = []

    def choose(*arguments: Any) -> PagedForward:
        made.append(PagedForward(*arguments))
        return made[-1]

    monkeypatch.setattr(batch, "choose_forward", choose)
    monkeypatch.setattr(engine, "KVPool", partial(KVPool, is_by_head=False))  # as a GPU's
    monkeypatch.setattr(attention, "PROGRAMS", 1)
    paged = make_bench()
    paged.finish(*jobs)
    assert made
    for job in jobs:
        assert timeless(paged.result(job.job_id)) == timeless(plain.result(job.job_id))


def test_weights_that_are_moved_lie_elsewhere(loaded: LoadedChat) -> None:
    weights = list(loaded.model.llm.parameters())
    before = weight_addresses(weights)
    assert before == weight_addresses(weights) and len(before) == len(weights)
    weight = loaded.model.llm.output_norm.weight
    original = weight.data
    weight.data = original.clone()
    assert weight_addresses(weights) != before
    weight.data = original
    assert weight_addresses(weights) == before


def test_a_weight_of_several_parts_has_their_addresses() -> None:
    """As quantized ones are: values and scales."""
    first, second = torch.zeros(4, 4), torch.ones(4, 4)
    weight = nn.Parameter(TwoTensor(first, second))
    assert weight_addresses([weight]) == [first.data_ptr(), second.data_ptr()]
