"""Folded weights compute what the published ones do."""

from collections.abc import Callable, Sequence
from copy import deepcopy

import pytest
import torch

from models.networks.cpm_bee.answer_bias import DecodeStep
from models.networks.cpm_bee.folding import fold_scalings
from models.networks.cpm_bee.model import CPMBee
from models.networks.cpm_bee.packing import PackedBatch

Pack = Callable[[Sequence[str]], PackedBatch]


def run(llm: CPMBee, batch: PackedBatch) -> list[torch.Tensor]:
    embeds = llm.embed(batch.ids, batch.subs)
    rows = llm.extension_rows(torch.tensor([3, 9]), torch.tensor([1, 2]))
    prompt, cache = llm.prefill(batch, embeds, 2, 1)
    ids = torch.tensor([[5, 6]] * len(batch.ids))
    step = llm.decode_step(
        DecodeStep(ids, torch.zeros_like(ids), torch.zeros_like(ids), torch.full_like(ids, 8)), cache
    )
    return [embeds, llm(batch), prompt, step, llm.logits(step, rows)]


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-4), (torch.float16, 0.2), (torch.bfloat16, 2.0)])
def test_folded_equals_unfolded(llm: CPMBee, pack: Pack, dtype: torch.dtype, limit: float) -> None:
    llm.to(dtype)
    batch = pack(["what is in the image? 🐱", "a 🐶🐱"])
    folded = deepcopy(llm)
    fold_scalings(folded)
    for got, expected in zip(run(folded, batch), run(llm, batch), strict=True):
        assert got.dtype == dtype
        assert (got.float() - expected.float()).abs().max() < limit


def test_folding_changes_weights_in_place_and_the_norms_and_biases_not_at_all(llm: CPMBee) -> None:
    before = {name: (value.data_ptr(), value.clone()) for name, value in llm.state_dict().items()}
    fold_scalings(llm)
    for name, value in llm.state_dict().items():
        address, old = before[name]
        assert value.data_ptr() == address
        assert torch.equal(value, old) == ("norm" in name or "position_bias" in name), name


def test_folding_twice_is_refused(llm: CPMBee) -> None:
    fold_scalings(llm)
    with pytest.raises(ValueError, match="folded already"):
        fold_scalings(llm)
