"""From a data tree to tokens: segments, relations, renumbering (SPEC §3)."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.networks.cpm_bee.data_tree import DataTree, family_of, pack_tree, relation_number, walk_segments
from models.networks.cpm_bee.tokenizer import Tokenizer

trees = st.recursive(
    st.text(alphabet="ab🐱", max_size=4),
    lambda children: st.dictionaries(st.sampled_from(["a", "b", "ab", "image", "<ans>"]), children, max_size=3),
    max_leaves=8,
).filter(lambda tree: isinstance(tree, dict))


def ids(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, {})[0]


def test_segments_are_numbered_depth_first() -> None:
    data = {"a": {"b": "c", "d": {}}, "<ans>": {"p": "x", "q": {"image": "y"}}, "image": {"left": "z"}}
    segments = list(walk_segments(data))
    assert [segment.text for segment in segments] == [
        *("<root>", "a", "b", "c", "d", "<ans>", "p", "x", "q", "image", "y", "image", "left", "z")
    ]
    assert [segment.text for segment in segments if segment.is_predicted] == ["x", "y"]
    assert [segment.text for segment in segments if segment.is_image] == ["z"]
    assert segments[10].ancestors == (0, 5, 8, 9, 10)


def test_only_the_top_level_keys_mark_answers_and_images() -> None:
    segments = list(walk_segments({"a": {"<ans>": "x", "image": "y"}}))
    assert not any(segment.is_predicted or segment.is_image for segment in segments)


def test_tokens_of_a_tree(tokenizer: Tokenizer) -> None:
    packed = pack_tree({"a": "b", "<ans>": "c"}, tokenizer)
    bos, eos = tokenizer.bos_id, tokenizer.eos_id
    root, key, text, answer = (ids(tokenizer, x) for x in ("<root>", "a", "b", "c"))
    expected = [[bos, *root, eos], [bos, *key, eos], [bos, *text, eos], [bos, tokenizer.answer_id, eos], [bos, *answer]]
    assert packed.ids == [token for segment in expected for token in segment]
    assert packed.segments == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3 + [4] * 2
    assert packed.contexts == [1] * 12 + [0] * 2
    assert packed.predict_segments == [4]
    assert packed.num_segments == 5


def test_relations_of_a_small_tree(tokenizer: Tokenizer) -> None:
    # root, a, x, b, y: a and b lie one step below the root, their texts two.
    packed = pack_tree({"a": "x", "b": "y"}, tokenizer)
    relations = [packed.segment_rel[row * 5 : row * 5 + 5] for row in range(5)]
    assert relations == [
        [0, 2, 3, 2, 3],
        [9, 0, 2, 10, 11],
        [17, 9, 0, 18, 19],
        [9, 10, 11, 0, 2],
        [17, 18, 19, 9, 0],
    ]


def test_relations_saturate_at_seven_steps(tokenizer: Tokenizer) -> None:
    data: DataTree = {"a": "x"}
    for _ in range(8):
        data = {"a": data}
    packed = pack_tree(data, tokenizer)
    n = packed.num_segments
    assert packed.segment_rel[:n] == [0, 2, 3, 4, 5, 6, 7, 8, 8, 8, 8]
    assert packed.segment_rel[(n - 1) * n] == relation_number(10, 0) == 57
    assert relation_number(0, 0) == 0
    assert relation_number(7, 9) == 64


@pytest.mark.slow
@given(data=trees)
@settings(deadline=None, max_examples=60)
def test_relations_mirror_and_are_zero_on_the_diagonal_only(tokenizer: Tokenizer, data: DataTree) -> None:
    packed = pack_tree(data, tokenizer)
    n = packed.num_segments
    for a in range(n):
        for b in range(n):
            there, back = packed.segment_rel[a * n + b], packed.segment_rel[b * n + a]
            assert (there == 0) == (a == b)
            if a != b:
                up, down = divmod(there - 1, 8)
                assert back == relation_number(down, up)


@pytest.mark.slow
@given(data=trees)
@settings(deadline=None, max_examples=60)
def test_arrays_agree_with_each_other(tokenizer: Tokenizer, data: DataTree) -> None:
    packed = pack_tree(data, tokenizer)
    assert len(packed.ids) == len(packed.subs) == len(packed.segments) == len(packed.contexts)
    assert packed.segments == sorted(packed.segments) and set(packed.segments) == set(range(packed.num_segments))
    assert {s for s, c in zip(packed.segments, packed.contexts, strict=True) if not c} == set(packed.predict_segments)
    assert len(packed.segment_rel) == packed.num_segments**2
    assert all(0 <= index < tokenizer.vocab_size for index in packed.ids)
    for start, end in packed.image_bounds:
        assert packed.ids[start - 1] == tokenizer.bos_id and packed.ids[end] == tokenizer.eos_id
        assert len({packed.segments[place] for place in range(start - 1, end + 1)}) == 1


def test_extension_words_are_numbered_by_family(tokenizer: Tokenizer) -> None:
    packed = pack_tree({"a": "🐱a<option_7>🐶a🐱", "b": "<option_0><unk><option_7>é"}, tokenizer)
    option = tokenizer.special_ids["<option>"]
    pairs = [pair for pair in zip(packed.ids, packed.subs, strict=True) if pair[0] in (tokenizer.unk_id, option)]
    unk = tokenizer.unk_id
    # A literal <unk> has sub 0, like the first unknown run: the same token to the model.
    in_first = [(unk, 0), (option, 0), (unk, 1), (unk, 0)]
    in_second = [(option, 1), (unk, 0), (option, 0), (unk, 2)]
    assert pairs == in_first + in_second
    strings = {family: [packed.extension_table[i] for i in subs] for family, subs in packed.families.items()}
    assert strings == {"<unk>": ["🐱", "🐶", "é"], "<option>": ["<option_7>", "<option_0>"]}
    assert [list(subs.values()) for subs in packed.families.values()] == [[0, 1, 2], [0, 1]]


def test_families_end_at_the_first_underscore() -> None:
    assert family_of("<mask_0_1>") == "<mask>"
    assert family_of("<mask>") == "<mask>"
    assert family_of("<>x_y>") == "<>x>"
    assert family_of("<_a>") == "<>"
    assert family_of("a_b>") == "<unk>"
    assert family_of("🐱") == "<unk>"


def test_a_family_that_the_vocabulary_lacks_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match="'<foo_1>': the vocabulary has no '<foo>'"):
        pack_tree({"a": "<foo_1>"}, tokenizer)


def test_image_bounds_hold_the_placeholders_only(tokenizer: Tokenizer) -> None:
    packed = pack_tree({"image": {"a": "<unk>" * 2, "b": "<unk>" * 3}, "a": "<unk>"}, tokenizer)
    assert [packed.ids[start:end] for start, end in packed.image_bounds] == [[tokenizer.unk_id] * n for n in (2, 3)]
