"""What rows of every kind choose from their logits, against one row at a time."""

import math

import pytest
import torch

from models.engines.chat.search.selection import RowSettings, choose, penalise, repeated_columns
from models.engines.chat.search.vocabulary import penalise_repetition
from models.jobs import ChatGeneration

BEAM = ChatGeneration(num_beams=3, temperature=0.7)
COLUMNS = 50


def logits_of(rows: int) -> torch.Tensor:
    return torch.randn(rows, COLUMNS, generator=torch.Generator().manual_seed(4))


def test_a_beams_choices_are_its_best_columns_with_the_beams_score() -> None:
    logits = logits_of(2)
    rows = [RowSettings(BEAM, 6, score) for score in (-1.5, -2.25)]
    for number, found in enumerate(choose(logits.clone(), torch.ones(2, dtype=torch.bool), rows)):
        scores = torch.log_softmax(logits[number] / 0.7, dim=-1) + (-1.5, -2.25)[number]
        best, columns = scores.topk(6)
        assert found == list(zip(best.tolist(), columns.tolist(), strict=True))


def test_rows_of_all_kinds_choose_side_by_side() -> None:
    logits = logits_of(4)
    sampled = ChatGeneration(do_sample=True, temperature=1.0)
    narrow = ChatGeneration(num_beams=2, temperature=1.0)
    rows = [
        RowSettings(ChatGeneration(num_beams=1), 1),
        RowSettings(BEAM, 6, -3.0),
        RowSettings(sampled, 1, draw=0.4),
        RowSettings(narrow, 4),
    ]
    greedy, beam, drawn, other = choose(logits.clone(), torch.ones(4, dtype=torch.bool), rows)
    assert greedy == [(0.0, int(logits[0].argmax()))]
    assert [column for _, column in beam] == logits[1].topk(6).indices.tolist()
    cumulative = torch.softmax(logits[2].double(), dim=-1).cumsum(-1)
    assert drawn == [(0.0, int((cumulative < 0.4).sum()))]
    assert [column for _, column in other][:4] == logits[3].topk(4).indices.tolist()


def test_a_row_that_is_not_finite_has_no_choice_and_spoils_no_other() -> None:
    logits = logits_of(2)
    logits[0, 3] = math.nan
    spoilt, sane = choose(logits, logits.sum(-1).isfinite(), [RowSettings(BEAM, 6)] * 2)
    assert spoilt == [] and len(sane) == 6


@pytest.mark.parametrize("window", [None, 1, 2, 3])
def test_fed_ids_are_penalised_as_one_row_at_a_time(window: int | None) -> None:
    """Rows of different lengths in one batch: what lies behind a row's newest token plays no part."""
    fed = torch.tensor([[6, 7, 7, 9, 11], [6, 3, 4, 0, 0], [6, 0, 0, 0, 0]])
    num_fed = [4, 2, 0]
    generation = ChatGeneration(repetition_penalty=1.7, repetition_window=window)
    rows = [RowSettings(generation, 6)] * 3
    logits = logits_of(3)
    together = logits.clone()
    penalise(together, repeated_columns(fed, num_fed, rows), rows)
    for number, count in enumerate(num_fed):
        ids = fed[number, : count + 1][-(window or 99) :]
        alone = logits[number].clone()[None, None]
        penalise_repetition(alone, ids[None, None], 1.7)
        assert torch.equal(together[number], alone[0, 0]), number


def test_a_penalty_of_1_leaves_all_as_it_is() -> None:
    logits = logits_of(1)
    rows = [RowSettings(ChatGeneration(repetition_penalty=1.0), 6)]
    changed = logits.clone()
    penalise(changed, torch.tensor([[1, 2]]), rows)
    assert torch.equal(changed, logits)
