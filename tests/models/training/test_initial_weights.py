"""What random weights begin as."""

import torch

from models.networks.cpm_bee.tokenizer import Tokenizer
from models.training.initial_weights import draw_alike
from tests.models.training_files import SPECIAL

SPELLINGS = [("red", "Red", "红"), ("blue", "Blue", "蓝"), ("green", "unknown", "绿")]


def test_spellings_of_one_meaning_begin_alike() -> None:
    entries = [*SPECIAL, *(word for meant in SPELLINGS for word in meant if word != "unknown"), "other"]
    tokenizer = Tokenizer.from_entries(entries)
    table = torch.zeros(len(entries), 4096)
    draw_alike(table, tokenizer, SPELLINGS, seed=1)
    rows = {entry: table[place] for place, entry in enumerate(entries)}

    def likeness(one: str, other: str) -> float:
        return float(torch.cosine_similarity(rows[one], rows[other], dim=0))

    assert all(abs(row.std() - 1) < 0.1 for entry, row in rows.items() if row.any())
    assert {entry for entry, row in rows.items() if not row.any()} == {*SPECIAL, "other"}
    assert likeness("red", "Red") > 0.7 and likeness("green", "绿") > 0.7
    assert 0.15 < likeness("红", "蓝") < 0.35, "the kind of spelling is common to all meanings"
    assert abs(likeness("red", "蓝")) < 0.1
