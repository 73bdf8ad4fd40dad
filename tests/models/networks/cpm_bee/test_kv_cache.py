"""The cache in decoding: beams that share a prompt, change parents and move through answer leaves."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from models.networks.cpm_bee.answer_bias import DecodeStep
from models.networks.cpm_bee.data_tree import DataTree
from models.networks.cpm_bee.kv_cache import KVCache
from models.networks.cpm_bee.model import CPMBee
from models.networks.cpm_bee.packing import PackedBatch, pack_chat
from models.networks.cpm_bee.tokenizer import Tokenizer

Pack = Callable[[Sequence[str]], PackedBatch]
QUESTIONS = ["what is in the image?", "a"]
BEAMS = 3
TOLERANCE = 2e-5


def prefill(llm: CPMBee, batch: PackedBatch, num_beams: int, max_new_tokens: int) -> KVCache:
    return llm.prefill(batch, llm.embed(batch.ids, batch.subs), num_beams, max_new_tokens)[1]


def step_of(ids: Tensor, position: int, segment: int) -> DecodeStep:
    zeros = torch.zeros_like(ids)
    return DecodeStep(ids, zeros, zeros + position, zeros + segment)


def last_hidden(llm: CPMBee, batch: PackedBatch, row: int, answer: Sequence[int], segment: int) -> Tensor:
    """Hidden state (D,) of the last token of one answer, decoded by a beam of its own."""
    cache = prefill(llm, batch, 1, len(answer))
    for position, token in enumerate(answer):
        hidden = llm.decode_step(step_of(torch.full((len(batch.ids), 1), token), position, segment), cache)
    return hidden[row, 0]


@pytest.mark.slow
def test_beams_that_share_a_prompt_equal_beams_of_their_own(llm: CPMBee, pack: Pack) -> None:
    batch = pack(QUESTIONS)
    generator = torch.Generator().manual_seed(0)
    steps = 5
    cache = prefill(llm, batch, BEAMS, steps)
    answers: list[list[list[int]]] = [[[] for _ in range(BEAMS)] for _ in QUESTIONS]
    for position in range(steps):
        ids = torch.randint(5, 60, (len(QUESTIONS), BEAMS), generator=generator)
        hidden = llm.decode_step(step_of(ids, position, 8), cache)
        answers = [[beam + [int(ids[b, k])] for k, beam in enumerate(row)] for b, row in enumerate(answers)]
        for b, row in enumerate(answers):
            for k, beam in enumerate(row):
                assert torch.allclose(hidden[b, k], last_hidden(llm, batch, b, beam, 8), atol=TOLERANCE), (b, k)
        # Parents that die, double and change places.
        parents = torch.randint(0, BEAMS, (len(QUESTIONS), BEAMS), generator=generator)
        cache.reorder(parents)
        answers = [[list(row[int(parents[b, k])]) for k in range(BEAMS)] for b, row in enumerate(answers)]


def test_a_change_of_parents_moves_no_key(llm: CPMBee, pack: Pack) -> None:
    cache = prefill(llm, pack(QUESTIONS), BEAMS, 2)
    llm.decode_step(step_of(torch.tensor([[5, 6, 7], [8, 9, 10]]), 0, 8), cache)
    end = cache.prompt_length + BEAMS
    keys, address = cache.keys[:, :, :, :end].clone(), cache.keys.data_ptr()
    cache.reorder(torch.tensor([[2, 2, 0], [1, 0, 0]]))
    assert cache.keys.data_ptr() == address
    assert torch.equal(cache.keys[:, :, :, :end], keys)


def test_the_prompt_is_stored_once(llm: CPMBee, pack: Pack) -> None:
    batch, config = pack(QUESTIONS), llm.config
    cache = prefill(llm, batch, BEAMS, 7)
    tokens = batch.ids.shape[1] + BEAMS * 7
    per_token_bytes = config.num_layers * 2 * config.num_heads * config.dim_head * 4
    assert cache.size_bytes == len(QUESTIONS) * tokens * per_token_bytes


def test_answer_leaves_follow_each_other(llm: CPMBee, tokenizer: Tokenizer) -> None:
    """Two leaves, and at the third step one beam is in the second leaf while the other is still in the first."""
    tree: DataTree = {"question": "what is red?", "<ans>": {"a": "", "b": ""}}
    batch = pack_chat([tree], tokenizer)
    first, second = (segment for segment, _ in batch.predict_segments[0])
    beams = [
        [(5, 0, first), (21, 1, first), (5, 0, second), (30, 1, second)],
        [(5, 0, first), (22, 1, first), (23, 2, first), (5, 0, second)],
    ]  # (id, position, segment)
    cache = prefill(llm, batch, 2, 4)
    hidden = []
    for step in zip(*beams, strict=True):
        ids, positions, segments = (torch.tensor([values]) for values in zip(*step, strict=True))
        hidden.append(llm.decode_step(DecodeStep(ids, torch.zeros_like(ids), positions, segments), cache))
    for k, beam in enumerate(beams):
        # What the tree tells of leaves and their own parts is all that enters: the full forward of the same tokens,
        # where a later leaf may be told by positions that go on.
        ids = torch.tensor([[token for token, _, _ in beam]])
        segments = torch.tensor([[segment for _, _, segment in beam]])
        zeros = torch.zeros_like(ids)
        joined = {
            "ids": ids,
            "subs": zeros,
            "segments": segments,
            "contexts": zeros,
            "num_segments": batch.num_segments[:, -1:].expand_as(ids),
            **{name: zeros for name in ("positions", "segment_rel_offsets", "samples", "spans")},
        }
        joined = {name: torch.cat([getattr(batch, name), tokens], dim=1) for name, tokens in joined.items()}
        whole = replace(batch, **joined, lengths=batch.lengths + 4)  # type: ignore[arg-type]
        assert torch.allclose(llm(whole)[0, -4:], torch.cat(hidden, dim=1).reshape(4, 2, -1)[:, k], atol=TOLERANCE)


def test_a_row_that_is_done_may_feed_the_root_segment(llm: CPMBee, pack: Pack) -> None:
    batch = pack(QUESTIONS)
    cache = prefill(llm, batch, 1, 2)
    ids = torch.tensor([[5], [0]])
    zeros = torch.zeros_like(ids)
    for position in range(2):
        hidden = llm.decode_step(DecodeStep(ids, zeros, zeros + position, torch.tensor([[8], [0]])), cache)
    assert hidden.isfinite().all()
    assert torch.allclose(hidden[0, 0], last_hidden(llm, batch, 0, [5, 5], 8), atol=TOLERANCE)


def test_a_full_cache_and_steps_of_another_shape_are_refused(llm: CPMBee, pack: Pack) -> None:
    batch = pack(QUESTIONS)
    cache = prefill(llm, batch, BEAMS, 1)
    with pytest.raises(ValueError, match=r"shape \(2, 2\); this cache takes \(2, 3\)"):
        llm.decode_step(step_of(torch.zeros(2, 2, dtype=torch.int64), 0, 8), cache)
    llm.decode_step(step_of(torch.zeros(2, BEAMS, dtype=torch.int64), 0, 8), cache)
    assert cache.length == 1
    with pytest.raises(ValueError, match="full: it was made for 1 answer tokens"):
        llm.decode_step(step_of(torch.zeros(2, BEAMS, dtype=torch.int64), 1, 8), cache)
    with pytest.raises(ValueError, match="0 beams and 4 new tokens"):
        prefill(llm, batch, 0, 4)
