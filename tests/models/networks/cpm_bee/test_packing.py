"""Batches: padding, extension columns, decode tables, targets (SPEC §3.1, §8.1, §9)."""

import pytest
import torch

from models.networks.cpm_bee.data_tree import DataTree, pack_tree
from models.networks.cpm_bee.packing import (
    IGNORED_TARGET,
    PackedBatch,
    PromptTooLong,
    pack_chat,
    pack_paint,
    pack_training,
    stacked,
)
from models.networks.cpm_bee.tokenizer import Tokenizer

PER_TOKEN = ("ids", "subs", "positions", "segments", "contexts", "num_segments")
CONSTANT = ("segment_rel_offsets", "samples", "spans")


def prompt(question: str, num_image_tokens: int = 4) -> DataTree:
    return {"image": "<unk>" * num_image_tokens, "context": "", "question": question, "<ans>": ""}


def row_without_padding(batch: PackedBatch, row: int) -> dict[str, list[int]]:
    length = int(batch.lengths[row])
    start = batch.ids.shape[1] - length if batch.padding == "left" else 0
    return {name: getattr(batch, name)[row, start : start + length].tolist() for name in PER_TOKEN}


def test_a_prompt_is_its_tree_without_the_answer_leaf(tokenizer: Tokenizer) -> None:
    batch = pack_chat([prompt("what")], tokenizer)
    full = pack_tree({**prompt("what"), "<ans>": "<ans_1>"}, tokenizer)
    assert batch.ids[0].tolist() == full.ids[:-2]
    assert full.ids[-2:] == [tokenizer.bos_id, tokenizer.answer_id]
    assert batch.positions[0].tolist() == list(range(len(full) - 2))
    assert batch.contexts.unique().tolist() == [1]
    assert batch.num_segments.unique().tolist() == [full.num_segments]
    assert batch.segment_rel[0].tolist() == full.segment_rel
    assert batch.predict_segments == [[(8, 1)]]
    assert batch.image_bounds == [full.image_bounds]
    assert all(getattr(batch, name).dtype == torch.int64 for name in (*PER_TOKEN, *CONSTANT, "extension_ids"))


def test_answer_leaves_are_numbered_in_order_and_taken_out_wherever_they_stand(tokenizer: Tokenizer) -> None:
    data: DataTree = {"<ans>": {"a": "", "b": {"c": "ignored"}}, "image": "<unk><unk>", "question": "x"}
    batch = pack_chat([data], tokenizer)
    assert batch.predict_segments == [[(3, 1), (6, 2)]]
    (start, end) = batch.image_bounds[0][0]
    assert batch.ids[0, start:end].tolist() == [tokenizer.unk_id] * 2
    assert batch.ids[0, start - 1].item() == tokenizer.bos_id and batch.ids[0, end].item() == tokenizer.eos_id
    assert not {3, 6} & set(batch.segments[0].tolist())


def test_left_padding_is_zero_and_leaves_rows_as_they_are_alone(tokenizer: Tokenizer) -> None:
    prompts = [prompt("a"), prompt("what is the image? " * 3), prompt("🐱")]
    batch = pack_chat(prompts, tokenizer)
    assert batch.padding == "left"
    for row, data in enumerate(prompts):
        alone = pack_chat([data], tokenizer)
        assert row_without_padding(batch, row) == row_without_padding(alone, 0)
        padding = batch.ids.shape[1] - int(batch.lengths[row])
        assert all(not getattr(batch, name)[row, :padding].any() for name in PER_TOKEN)
        assert batch.image_bounds[row] == [(start + padding, end + padding) for start, end in alone.image_bounds[0]]
    assert not any(getattr(batch, name).any() for name in CONSTANT)


def test_prompts_of_one_length_are_stacked(tokenizer: Tokenizer) -> None:
    alone = [pack_chat([prompt(question)], tokenizer) for question in ("a", "🐱", "b")]
    batch, together = stacked(alone), pack_chat([prompt(question) for question in ("a", "🐱", "b")], tokenizer)
    for name in (*PER_TOKEN, *CONSTANT, "lengths", "segment_rel"):
        assert torch.equal(getattr(batch, name), getattr(together, name)), name
    assert (batch.image_bounds, batch.predict_segments) == (together.image_bounds, together.predict_segments)
    assert stacked(alone[:1]) is alone[0]


def test_relations_of_rows_with_fewer_segments_are_padded(tokenizer: Tokenizer) -> None:
    small: DataTree = {"question": "a", "<ans>": ""}
    batch = pack_chat([small, prompt("a")], tokenizer)
    assert batch.segment_rel.shape == (2, 81)
    assert batch.segment_rel[0, :25].tolist() == pack_chat([small], tokenizer).segment_rel[0].tolist()
    assert not batch.segment_rel[0, 25:].any()


def test_first_words_of_a_family_decode_from_its_id_and_others_from_columns(tokenizer: Tokenizer) -> None:
    batch = pack_chat([prompt("🐱 🐶 <option_2> é <option_1> 🐱")], tokenizer)
    unk, option, first = tokenizer.unk_id, tokenizer.special_ids["<option>"], tokenizer.vocab_size
    # Columns go family by family, although <option_1> comes after é.
    assert list(zip(batch.extension_ids.tolist(), batch.extension_subs.tolist(), strict=True)) == [
        *((unk, 1), (unk, 2), (option, 1))
    ]
    assert batch.decode_tables == [
        {unk: "🐱", first: "🐶", first + 1: "é", option: "<option_2>", first + 2: "<option_1>"}
    ]


def test_a_later_family_takes_its_columns_after_an_earlier_one(tokenizer: Tokenizer) -> None:
    batch = pack_chat([prompt("🐱 <option_2> <option_1> 🐶")], tokenizer)
    unk, option = tokenizer.unk_id, tokenizer.special_ids["<option>"]
    assert (batch.extension_ids.tolist(), batch.extension_subs.tolist()) == ([unk, option], [1, 1])


def test_columns_are_shared_by_rows_but_strings_are_not(tokenizer: Tokenizer) -> None:
    batch = pack_chat([prompt("🐱 🐶"), prompt("a"), prompt("x é y ü z ö")], tokenizer)
    unk, first = tokenizer.unk_id, tokenizer.vocab_size
    assert (batch.extension_ids.tolist(), batch.extension_subs.tolist()) == ([unk, unk], [1, 2])
    assert batch.decode_tables == [{unk: "🐱", first: "🐶"}, {}, {unk: "é", first: "ü", first + 1: "ö"}]


def test_answer_placeholders_in_a_text_get_no_column(tokenizer: Tokenizer) -> None:
    batch = pack_chat([prompt("<ans_5><ans_6>")], tokenizer)
    assert batch.decode_tables == [{}] and batch.extension_ids.numel() == 0
    assert batch.predict_segments == [[(8, 1)]]


def test_the_limit_counts_the_answer_leaf_and_names_both_numbers(tokenizer: Tokenizer) -> None:
    full_length = int(pack_chat([prompt("what")], tokenizer).lengths[0]) + 2
    assert pack_chat([prompt("what")], tokenizer, full_length).lengths.tolist() == [full_length - 2]
    with pytest.raises(PromptTooLong, match=f"{full_length} tokens .* at most {full_length - 1}") as error:
        pack_chat([prompt("what")], tokenizer, full_length - 1)
    assert isinstance(error.value, ValueError)


@pytest.mark.parametrize("data", [{"question": "a"}, {"question": "a", "<ans>": {}}])
def test_a_prompt_without_an_answer_leaf_is_refused(tokenizer: Tokenizer, data: DataTree) -> None:
    with pytest.raises(ValueError, match="<ans>"):
        pack_chat([data], tokenizer)


def test_paint_texts_are_context_padded_on_the_right(tokenizer: Tokenizer) -> None:
    texts: list[DataTree] = [{"caption": "a red image", "objects": ""}, {"caption": "", "objects": ""}]
    batch = pack_paint(texts, tokenizer)
    assert batch.padding == "right" and batch.lengths[0] == batch.ids.shape[1]
    for row, data in enumerate(texts):
        packed, length = pack_tree(data, tokenizer), int(batch.lengths[row])
        assert batch.ids[row, :length].tolist() == packed.ids
        assert all(not getattr(batch, name)[row, length:].any() for name in PER_TOKEN)
        assert batch.contexts[row].sum() == length
    # The dummy column of texts without extension words.
    assert (batch.extension_ids.tolist(), batch.extension_subs.tolist()) == ([0], [1])


def test_paint_has_a_column_for_each_occurrence(tokenizer: Tokenizer) -> None:
    batch = pack_paint([{"caption": "🐱 🐶 🐶", "objects": ""}], tokenizer)
    assert (batch.extension_ids.tolist(), batch.extension_subs.tolist()) == ([tokenizer.unk_id] * 2, [1, 1])


def test_targets_are_the_next_tokens_of_the_answers(tokenizer: Tokenizer) -> None:
    sample: DataTree = {"question": "b", "<ans>": {"p": "xy", "q": ""}}
    batch, targets = pack_training([sample], tokenizer, max_len=40)
    packed = pack_tree(sample, tokenizer)
    x, y = tokenizer.encode("x", {})[0][0], tokenizer.encode("y", {})[0][0]
    first = packed.segments.index(packed.predict_segments[0])
    second = packed.segments.index(packed.predict_segments[1])
    expected = [IGNORED_TARGET] * 40
    # bos -> x -> y -> eos, and an empty answer is bos -> eos.
    expected[first : first + 3] = [x, y, tokenizer.eos_id]
    expected[second] = tokenizer.eos_id
    assert targets[0].tolist() == expected
    assert batch.ids.shape == (1, 40) and batch.lengths.tolist() == [len(packed)]
    assert batch.positions[0].max() == len(packed) - 1


def test_targets_name_columns_repeated_or_shared(tokenizer: Tokenizer) -> None:
    samples: list[DataTree] = [{"question": "🐱 🐶", "<ans>": "🐶🐱a🐶"}, {"question": "é a ü", "<ans>": "ü"}]
    unk, first = tokenizer.unk_id, tokenizer.vocab_size
    repeated, repeated_targets = pack_training(samples, tokenizer, max_len=40, duplicates=True)
    # 🐶🐱 is a word of its own: subs 0 🐱, 1 🐶, 2 🐶🐱; occurrences 🐶, 🐶🐱, 🐶 and then ü, ü of the second sample.
    assert repeated.extension_ids.tolist() == [unk] * 5
    assert repeated.extension_subs.tolist() == [1, 2, 1, 1, 1]
    shared, shared_targets = pack_training(samples, tokenizer, max_len=40)
    assert shared.extension_subs.tolist() == [1, 2]

    a = tokenizer.encode("a", {})[0][0]
    learnt = [row[row != IGNORED_TARGET].tolist() for row in repeated_targets]
    assert learnt == [[first + 1, a, first + 2, tokenizer.eos_id], [first + 4, tokenizer.eos_id]]
    learnt = [row[row != IGNORED_TARGET].tolist() for row in shared_targets]
    assert learnt == [[first + 1, a, first, tokenizer.eos_id], [first, tokenizer.eos_id]]


def test_training_without_extension_words_has_the_dummy_column(tokenizer: Tokenizer) -> None:
    batch, targets = pack_training([{"question": "a 🐱", "<ans>": "🐱"}], tokenizer, max_len=30)
    assert (batch.extension_ids.tolist(), batch.extension_subs.tolist()) == ([0], [1])
    assert targets[targets != IGNORED_TARGET].tolist() == [tokenizer.unk_id, tokenizer.eos_id]


def test_a_sample_over_the_maximum_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(PromptTooLong, match="at most 10"):
        pack_training([{"question": "a", "<ans>": "b" * 30}], tokenizer, max_len=10)


def test_a_batch_moves_as_a_whole(tokenizer: Tokenizer) -> None:
    batch = pack_chat([prompt("🐱 🐶")], tokenizer)
    assert batch.to("cpu") is batch
    moved = batch.to("meta")
    assert moved.ids.device.type == moved.extension_subs.device.type == moved.segment_rel.device.type == "meta"
    assert (moved.padding, moved.decode_tables, moved.image_bounds) == ("left", batch.decode_tables, batch.image_bounds)
