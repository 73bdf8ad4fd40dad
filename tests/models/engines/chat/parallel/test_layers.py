"""Layers of connected shares against those of the whole model."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from models.checkpoints.loading import LoadedChat, load_chat
from models.engines.chat.parallel.group import Group
from models.engines.chat.parallel.layers import connect
from models.engines.packed_linear import pack_language_model
from models.networks.cpm_bee.folding import fold_scalings


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("is_packed", [False, True], ids=["plain", "packed"])
def test_connected_shares_compute_what_the_whole_does(in_ranks: Any, folder: Path, size: int, is_packed: bool) -> None:
    ids = torch.arange(0, 99, 7)[None]
    subs = ids % 3

    def outputs(loaded: LoadedChat, group: Group | None) -> tuple[Tensor, Tensor, Tensor]:
        llm = loaded.model.llm
        fold_scalings(llm)
        if is_packed:
            pack_language_model(llm)
        if group is not None:
            connect(llm, group)
        embedded = llm.embed(ids, subs)
        block = llm.blocks[0]
        return embedded, block.finish(embedded, embedded), llm.logits(embedded, llm.extension_rows(ids[0], subs[0]))

    whole = outputs(load_chat(folder), None)
    results = in_ranks(size, lambda group: outputs(load_chat(folder, shard=group.shard), group))
    for rank, result in enumerate(results):
        assert torch.equal(result[0], whole[0]), "one rank has the row, the others add nothing"
        torch.testing.assert_close(result[1], whole[1], rtol=1e-5, atol=1e-5)
        assert torch.equal(result[1], results[0][1]), "the ranks' hidden states are the same"
        if rank == 0:
            torch.testing.assert_close(result[2], whole[2], rtol=1e-5, atol=1e-5)
