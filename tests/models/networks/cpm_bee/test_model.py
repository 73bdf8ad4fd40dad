"""CPM-Bee on tiny random weights: decoding against the full forward, padding, loss, precisions, construction."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models.networks.cpm_bee.answer_bias import DecodeStep
from models.networks.cpm_bee.config import CPMBeeConfig
from models.networks.cpm_bee.layers import rotate
from models.networks.cpm_bee.model import CPMBee
from models.networks.cpm_bee.packing import PackedBatch, pack_paint, pack_training
from models.networks.cpm_bee.tokenizer import Tokenizer

Pack = Callable[[Sequence[str]], PackedBatch]
ANSWER = [(5, 0), (20, 0), (3, 1), (33, 0), (3, 2), (12, 0)]  # (id, sub) of what is fed
TOLERANCE = 2e-5


def embeds_of(llm: CPMBee, batch: PackedBatch) -> Tensor:
    return llm.embed(batch.ids, batch.subs)


def decode(llm: CPMBee, batch: PackedBatch, answer: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    """Feeds one answer to every row -> hidden states of the prompt (B, L, D) and the answer (B, T, D)."""
    rows = batch.ids.shape[0]
    prompt, cache = llm.prefill(batch, embeds_of(llm, batch), num_beams=1, max_new_tokens=len(answer))
    segments = torch.tensor([[leaves[0][0]] for leaves in batch.predict_segments])
    hidden = []
    for position, (id_, sub) in enumerate(answer):
        ids, subs, positions = (torch.full((rows, 1), value) for value in (id_, sub, position))
        hidden.append(llm.decode_step(DecodeStep(ids, subs, positions, segments), cache))
    return prompt, torch.cat(hidden, dim=1)


def with_answer(batch: PackedBatch, answer: Sequence[tuple[int, int]]) -> PackedBatch:
    """The one prompt and its answer as a sequence to be learnt: answer tokens are no context."""
    ids, subs = torch.tensor(answer).T[:, None]
    joined = {
        "ids": ids,
        "subs": subs,
        "positions": ids,  # the full forward counts by itself
        "segments": torch.full_like(ids, batch.predict_segments[0][0][0]),
        "contexts": torch.zeros_like(ids),
        "num_segments": batch.num_segments[:, -1:].expand_as(ids),
        **{name: torch.zeros_like(ids) for name in ("segment_rel_offsets", "samples", "spans")},
    }
    joined = {name: torch.cat([getattr(batch, name), tokens], dim=1) for name, tokens in joined.items()}
    return replace(batch, **joined, lengths=batch.lengths + len(answer), padding="right")


def test_decoding_equals_the_full_forward(llm: CPMBee, pack: Pack) -> None:
    batch = pack(["what is in the image? 🐱🐶"])
    prompt, answer = decode(llm, batch, ANSWER)
    whole = llm(with_answer(batch, ANSWER))
    assert torch.allclose(whole[:, : -len(ANSWER)], prompt, atol=TOLERANCE)
    assert torch.allclose(whole[:, -len(ANSWER) :], answer, atol=TOLERANCE)
    assert answer.std() > 0.3  # of the norm's scale: the comparison is not one of zeros


def test_answers_are_causal_and_prompts_are_not(llm: CPMBee, pack: Pack) -> None:
    batch = pack(["what is red?"])
    whole = llm(with_answer(batch, ANSWER))
    other_end = llm(with_answer(batch, [*ANSWER[:-1], (40, 0)]))
    assert torch.allclose(whole[:, :-1], other_end[:, :-1], atol=TOLERANCE)
    assert (whole[:, -1] - other_end[:, -1]).abs().max() > 0.1
    other_question = llm(
        replace(batch, ids=batch.ids.clone().index_fill_(1, torch.tensor([batch.ids.shape[1] - 2]), 30))
    )
    assert (other_question[:, 0] - llm(batch)[:, 0]).abs().max() > 0.01


def test_rows_padded_on_the_left_answer_as_they_do_alone(llm: CPMBee, pack: Pack) -> None:
    questions = ["a", "what is in the image? the red abcd 🐱", "is the cat red?"]
    prompt, answer = decode(llm, pack(questions), ANSWER)
    assert prompt.isfinite().all()
    for row, question in enumerate(questions):
        alone_prompt, alone_answer = decode(llm, pack([question]), ANSWER)
        assert torch.allclose(prompt[row, -alone_prompt.shape[1] :], alone_prompt[0], atol=TOLERANCE)
        assert torch.allclose(answer[row], alone_answer[0], atol=TOLERANCE)


def test_rows_padded_on_the_right_are_as_they_are_alone(llm: CPMBee, tokenizer: Tokenizer) -> None:
    texts = [{"caption": text, "objects": ""} for text in ("a red image", "ab", "the image is red in the red abc")]
    hidden = llm(pack_paint(texts, tokenizer))
    for row, text in enumerate(texts):
        alone = llm(pack_paint([text], tokenizer))
        assert torch.allclose(hidden[row, : alone.shape[1]], alone[0], atol=TOLERANCE)


def test_padding_rows_see_nothing_and_stay_finite(llm: CPMBee, tokenizer: Tokenizer) -> None:
    def padded(text: str) -> Tensor:
        other = {"caption": "the longest of all the texts", "objects": ""}
        hidden: Tensor = llm(pack_paint([{"caption": text, "objects": ""}, other], tokenizer))
        return hidden[0]

    one, two = padded("ab"), padded("cd")
    assert one.isfinite().all()
    assert (one[0] - two[0]).abs().max() > 0.01
    assert torch.equal(one[-1], two[-1])
    # Nothing attended to: id 0 runs through the feed-forwards alone.
    hidden = llm.embed(torch.tensor([0]), torch.tensor([0]))
    for block in llm.layers:
        hidden = hidden / 1.05
        hidden = (hidden + block.feed_forward(block.feed_forward_norm(hidden))) / 1.05  # type: ignore[operator]
    assert torch.allclose(llm.output_norm(hidden)[0], one[-1], atol=TOLERANCE)


def test_layer_outputs_lead_to_the_hidden_states(llm: CPMBee, pack: Pack) -> None:
    outputs: list[Tensor] = []
    hidden = llm(pack(["a"]), layer_outputs=outputs)
    assert len(outputs) == llm.config.num_layers
    assert torch.equal(llm.output_norm(outputs[-1]), hidden)


def test_states_at_some_places_are_those_of_all_places(llm: CPMBee, pack: Pack) -> None:
    batch = pack(["a", "the longest of all the texts"])
    places = torch.tensor([[2, 0, 1], [5, 5, batch.ids.shape[1] - 1]])
    expected = llm(batch)[torch.arange(2)[:, None], places]
    assert torch.allclose(llm(batch, places=places), expected, atol=TOLERANCE)


def test_embedding_turns_by_the_sub_index_alone(llm: CPMBee) -> None:
    width = llm.config.dim_model
    ids, subs = torch.tensor([7, 7, 7]), torch.tensor([0, 1, 3])
    embedded = llm.embed(ids, subs)
    row = llm.embedding.weight[7] / math.sqrt(width)
    assert torch.allclose(embedded[0], row)
    for j in range(width // 2):  # element j turns with j + width / 2
        angle = 16 * 3 * 10000 ** (-2 * j / width)
        expected = row[j] * math.cos(angle) - row[j + width // 2] * math.sin(angle)
        assert embedded[2, j].item() == pytest.approx(expected.item(), abs=1e-4)
    assert torch.allclose(embedded.norm(dim=-1), row.norm().expand(3), atol=1e-5)


@pytest.mark.parametrize(("half", "expected"), [(True, torch.float16), (False, torch.float32)])
def test_float16_models_follow_the_configured_tables(config: CPMBeeConfig, half: bool, expected: torch.dtype) -> None:
    torch.manual_seed(0)
    llm = CPMBee(replace(config, half=half)).half()
    ids, subs = torch.tensor([9, 4]), torch.tensor([1, 3])
    rows = llm.embedding.weight[ids] / math.sqrt(config.dim_model)
    assert torch.equal(llm.embed(ids, subs), rotate(rows, subs, expected))
    llm.float()
    rows = llm.embedding.weight[ids] / math.sqrt(config.dim_model)
    assert torch.equal(llm.embed(ids, subs), rotate(rows, subs, torch.float32))


def test_extension_columns_stand_behind_the_vocabulary(llm: CPMBee) -> None:
    hidden = torch.randn(2, 5, llm.config.dim_model, generator=torch.Generator().manual_seed(0))
    vocabulary = llm.logits(hidden, None)
    assert vocabulary.shape == (2, 5, llm.config.vocab_size)
    rows = llm.extension_rows(torch.tensor([9, 3]), torch.tensor([0, 2]))
    extended = llm.logits(hidden, rows)
    assert torch.equal(extended[..., : llm.config.vocab_size], vocabulary)
    # Both carry the factor 1/sqrt(D) once: a row that is not turned scores as its own vocabulary column.
    assert torch.allclose(extended[..., -2], vocabulary[..., 9], atol=1e-5)
    assert (extended[..., -1] - vocabulary[..., 3]).abs().max() > 0.1
    no_rows = llm.extension_rows(torch.tensor([], dtype=torch.int64), torch.tensor([], dtype=torch.int64))
    assert torch.equal(llm.logits(hidden, no_rows), vocabulary)


def test_loss_is_the_mean_over_targets(llm: CPMBee, tokenizer: Tokenizer) -> None:
    samples = [
        {"question": "what?", "<ans>": "a 🐱 and 🐶"},
        {"question": "what is in the image? 🐱", "<ans>": "the red 🐶"},
    ]
    batch, targets = pack_training(samples, tokenizer, max_len=48)
    assert (targets >= tokenizer.vocab_size).any()
    hidden = llm(batch)
    rows = llm.extension_rows(batch.extension_ids, batch.extension_subs)
    probabilities = F.log_softmax(llm.logits(hidden, rows), dim=-1)
    losses = [-probabilities[tuple(place)][targets[tuple(place)]] for place in (targets != -100).nonzero()]
    assert llm.loss(hidden, targets, rows).item() == pytest.approx(torch.stack(losses).mean().item(), rel=1e-5)


def test_gradients_reach_every_parameter_past_the_padding(llm: CPMBee, tokenizer: Tokenizer) -> None:
    llm.requires_grad_(True)
    batch, targets = pack_training([{"question": "what?", "<ans>": "the red abc"}], tokenizer, max_len=40)
    llm.loss(llm(batch), targets, None).backward()
    for name, parameter in llm.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any(), name


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float16, 0.05), (torch.bfloat16, 0.4)])
def test_half_precision_stays_near_float32(llm: CPMBee, pack: Pack, dtype: torch.dtype, limit: float) -> None:
    batch = pack(["a", "what is in the image?"])
    whole, (prompt, answer) = llm(batch), decode(llm, batch, [(5, 0), (20, 0)])
    llm.to(dtype)
    half_whole, (half_prompt, half_answer) = llm(batch), decode(llm, batch, [(5, 0), (20, 0)])
    for got, expected in ((half_whole, whole), (half_prompt, prompt), (half_answer, answer)):
        assert got.dtype == dtype
        assert got.isfinite().all()
        assert (got.float() - expected).abs().max() < limit


def test_built_on_the_meta_device_and_given_weights(llm: CPMBee, config: CPMBeeConfig, pack: Pack) -> None:
    with torch.device("meta"):
        empty = CPMBee(config)
    assert not list(empty.buffers())  # nothing computed when built could be lost
    assert all(parameter.is_meta for parameter in empty.parameters())
    empty.load_state_dict(llm.state_dict(), assign=True)
    empty.requires_grad_(False)
    batch = pack(["what is red?"])
    assert torch.equal(empty(batch), llm(batch))
    assert torch.equal(decode(empty, batch, ANSWER)[1], decode(llm, batch, ANSWER)[1])


def test_parameter_names_and_shapes(llm: CPMBee, config: CPMBeeConfig) -> None:
    width, inner, wide = config.dim_model, config.num_heads * config.dim_head, config.dim_ff
    expected = {
        "embedding.weight": (config.vocab_size, width),
        "position_bias.weight": (config.num_position_buckets + config.num_segment_buckets, config.num_heads),
        "output_norm.weight": (width,),
    }
    for layer in range(config.num_layers):
        expected |= {
            f"layers.{layer}.attention_norm.weight": (width,),
            **{f"layers.{layer}.attention.{name}.weight": (inner, width) for name in ("query", "key", "value")},
            f"layers.{layer}.attention.output.weight": (width, inner),
            f"layers.{layer}.feed_forward_norm.weight": (width,),
            f"layers.{layer}.feed_forward.gate.weight": (wide, width),
            f"layers.{layer}.feed_forward.up.weight": (wide, width),
            f"layers.{layer}.feed_forward.down.weight": (width, wide),
        }
    assert {name: tuple(value.shape) for name, value in llm.state_dict().items()} == expected


def test_relations_may_start_anywhere_in_their_table(llm: CPMBee, pack: Pack) -> None:
    batch = pack(["what is red?"])
    table = torch.cat([torch.full((1, 5), 17), batch.segment_rel], dim=1)
    moved = replace(batch, segment_rel=table, segment_rel_offsets=torch.full_like(batch.ids, 5))
    for got, expected in zip(decode(llm, moved, ANSWER), decode(llm, batch, ANSWER), strict=True):
        assert torch.equal(got, expected)
    assert torch.equal(llm(moved), llm(batch))
