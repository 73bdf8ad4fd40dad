"""Texts run through the language model once, and no text is taken for another."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from models.engines.paint.engine import PaintEngine
from models.engines.paint.prompt import pack_job
from models.engines.paint.texts import TextEncoder, row_key, select_rows
from models.networks.cpm_bee.packing import PackedBatch
from tests.models.engines.paint.jobs import job


@pytest.fixture
def rows_run(engine: PaintEngine, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many rows each call of the language model had."""
    seen: list[int] = []
    forward = engine.painter.model.llm.forward

    def counted(batch: PackedBatch, *args: Any) -> Any:
        seen.append(len(batch.ids))
        return forward(batch, *args)

    monkeypatch.setattr(engine.painter.model.llm, "forward", counted)
    yield seen


def packed(engine: PaintEngine, **fields: Any) -> PackedBatch:
    return pack_job(job(**fields), engine.tokenizer)


@pytest.mark.slow
def test_known_texts_are_not_run_again(engine: PaintEngine, rows_run: list[int]) -> None:
    encoder = TextEncoder(engine.painter.model, engine.painter.device)
    first = encoder.encode(packed(engine, prompt="a cat"))
    assert torch.equal(encoder.encode(packed(engine, prompt="a cat")), first)
    other = encoder.encode(packed(engine, prompt="a dog"))  # as long: its negative prompt is the same row
    assert torch.equal(other[0], first[0]) and not torch.equal(other[1], first[1])
    assert rows_run == [2, 1]
    encoder.encode(packed(engine, prompt="a very much longer prompt than that"))
    assert rows_run == [2, 1, 2], "padded to another length, the empty negative prompt is another text"


@pytest.mark.slow
def test_a_row_run_alone_is_the_row_of_the_pair(engine: PaintEngine) -> None:
    together = engine.painter.model.encode_prompts(packed(engine, prompt="a cat"))
    encoder = TextEncoder(engine.painter.model, engine.painter.device)
    encoder.encode(packed(engine, prompt="a dog"))
    assert torch.allclose(encoder.encode(packed(engine, prompt="a cat")), together, atol=1e-5)


def test_the_least_recently_used_make_room(engine: PaintEngine, rows_run: list[int]) -> None:
    probe = TextEncoder(engine.painter.model, engine.painter.device)
    probe.encode(packed(engine, prompt="a cat"))
    encoder = TextEncoder(engine.painter.model, engine.painter.device, max_bytes=probe.num_bytes)
    rows_run.clear()
    encoder.encode(packed(engine, prompt="a cat"))
    encoder.encode(packed(engine, prompt="a dog"))  # the cat goes, the negative prompt was used just now
    assert encoder.num_bytes <= encoder.max_bytes
    encoder.encode(packed(engine, prompt="a dog"))
    encoder.encode(packed(engine, prompt="a cat"))
    assert rows_run == [2, 1, 1]


def test_keys_tell_apart_what_the_language_model_is_given(engine: PaintEngine) -> None:
    texts = packed(engine, prompt="a cat", negative_prompt="a dog")
    assert row_key(texts, 0) != row_key(texts, 1)
    swapped = packed(engine, prompt="a dog", negative_prompt="a cat")
    assert (row_key(texts, 0), row_key(texts, 1)) == (row_key(swapped, 1), row_key(swapped, 0))
    longer = packed(engine, prompt="a cat that is longer", negative_prompt="a dog")
    assert row_key(longer, 0) != row_key(texts, 0)


def test_selected_rows_are_a_batch_of_their_own(engine: PaintEngine) -> None:
    texts = packed(engine, prompt="a cat", negative_prompt="a dog")
    chosen = select_rows(texts, [1])
    assert torch.equal(chosen.ids, texts.ids[1:]) and chosen.lengths.tolist() == [int(texts.lengths[1])]
    assert len(chosen.image_bounds) == len(chosen.decode_tables) == 1
    assert select_rows(texts, [0, 1]) is texts
