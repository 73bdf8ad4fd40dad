"""The tokenizer on a small made-up vocabulary: every rule of SPEC §2 that the reference's files might not meet."""

import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.networks.cpm_bee.data_tree import pack_tree
from models.networks.cpm_bee.tokenizer import SpecialTokenError, Tokenizer, escape, unescape

REQUIRED = ["<pad>", "<unk>", "<s>", "</s>", "<root>", "<ans>", "</n>", "</_>"]
SHARED = Path(__file__).parents[5] / "shared"
PUBLISHED_VOCABULARY = SHARED / "reference-data" / "cpm-bee-vocab.txt"
PUBLISHED_EXAMPLES = SHARED / "manifests" / "published_vocabulary_examples.json"
needs_published = pytest.mark.skipif(
    not (PUBLISHED_VOCABULARY.exists() and PUBLISHED_EXAMPLES.exists()),
    reason="reference data: the published vocabulary and its examples are not part of the project",
)

# Words, unknown characters, brackets, white space: whatever a rule might trip over.
texts = st.text(alphabet="ab<>_ \nrsu猫🐱é\r\t\x85\u2028", max_size=30)


def split(tokenizer: Tokenizer, text: str) -> list[tuple[str, str]]:
    kinds = {(False, False): "word", (True, False): "unknown", (False, True): "special"}
    return [(piece.text, kinds[piece.is_unknown, piece.is_special]) for piece in tokenizer.pieces(text)]


def words(tokenizer: Tokenizer, text: str) -> list[str]:
    return [piece.text for piece in tokenizer.pieces(text)]


def test_ids_are_line_numbers_and_only_line_ends_are_removed(tmp_path: Path) -> None:
    path = tmp_path / "vocab.txt"
    entries = [*REQUIRED[:4], " two", "tail ", "\tx", "a\x85b", "u\u2028v", *REQUIRED[4:], "z"]
    path.write_bytes("\n".join(entries[:6]).encode() + b"\n\n\n" + "\n".join(entries[6:]).encode())
    tokenizer = Tokenizer(path)
    assert tokenizer.vocab_size == len(entries)
    for text in (" two", "tail ", "\tx", "a\x85b", "u\u2028v", "z"):
        assert tokenizer.encode(text, {}) == ([entries.index(text)], {})
    assert (tokenizer.newline_id, tokenizer.space_id) == (entries.index("</n>"), entries.index("</_>"))


def test_a_final_newline_and_carriage_returns_add_no_entry(tmp_path: Path) -> None:
    path = tmp_path / "vocab.txt"
    path.write_bytes(("\r\n".join([*REQUIRED, "a"]) + "\r\n").encode())
    assert Tokenizer(path).encode("a\n", {}) == ([8, 6], {})


def test_newline_and_space_lose_their_names_in_the_file(tokenizer: Tokenizer) -> None:
    ids, table = tokenizer.encode(" \n</n></_>", {})
    assert ids == [tokenizer.space_id, tokenizer.newline_id, tokenizer.vocab_size, tokenizer.vocab_size + 1]
    assert list(table.values()) == ["</n>", "</_>"]


def test_longest_piece_is_measured_after_the_renaming() -> None:
    assert Tokenizer.from_entries([*REQUIRED, "abc"]).max_piece_length == len("<root>")
    assert Tokenizer.from_entries([*REQUIRED, "a" * 9]).max_piece_length == 9


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([*REQUIRED, "a", "b", "a"], "'a' more than once"),
        ([*REQUIRED, " "], "' ' more than once"),
        (REQUIRED[1:], "lacks \\['<pad>'\\]"),
    ],
)
def test_a_vocabulary_that_cannot_be_right_is_refused(entries: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Tokenizer.from_entries(entries)


def test_longest_match_wins_and_falls_back(tokenizer: Tokenizer) -> None:
    assert words(tokenizer, "abcde") == ["abcd", "e"]
    assert words(tokenizer, "abce") == ["abc", "e"]
    assert words(tokenizer, "bcab") == ["b", "c", "ab"]
    assert words(tokenizer, "  is  red") == [" ", " is", " ", " red"]


def test_special_names_never_match_in_plain_text(tokenizer: Tokenizer) -> None:
    assert split(tokenizer, "<<unk>") == [(c, "word") for c in "<unk>"]
    assert split(tokenizer, "<unk>") == [("<unk>", "special")]


def test_unknown_characters_join_within_one_part_only(tokenizer: Tokenizer) -> None:
    assert split(tokenizer, "🐱🐶a🐱") == [("🐱🐶", "unknown"), ("a", "word"), ("🐱", "unknown")]
    assert split(tokenizer, "🐱<s>🐱") == [("🐱", "unknown"), ("<s>", "special"), ("🐱", "unknown")]
    assert split(tokenizer, "\r\n\t") == [("\r", "unknown"), ("\n", "word"), ("\t", "unknown")]


def test_doubled_brackets_are_one_character(tokenizer: Tokenizer) -> None:
    assert words(tokenizer, "a<<b") == ["a", "<", "b"]
    assert words(tokenizer, "<<<<") == ["<", "<"]
    assert words(tokenizer, " <<<<") == [" <<"]
    assert words(tokenizer, "<<<s><<") == ["<", "<s>", "<"]


def test_the_first_character_of_a_special_token_may_be_anything(tokenizer: Tokenizer) -> None:
    assert split(tokenizer, "<>x>a") == [("<>x>", "special"), ("a", "word")]
    assert split(tokenizer, "<\n>") == [("<\n>", "special")]
    assert split(tokenizer, "a>b") == [("a", "word"), (">", "word"), ("b", "word")]


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("a<", "end", "character 1 opens"),
        ("<", "end", "character 0 opens"),
        ("<<<", "end", "character 2 opens"),
        ("a <b", "end", "character 2 opens"),
        ("<>", "end", "character 0 opens"),
        ("<a<b>", "nested", "character 2 inside .* character 0"),
        ("<a<", "nested", "character 2 inside"),
        ("x<a<<b>", "nested", "character 3 inside"),
    ],
)
def test_open_and_nested_brackets_are_refused(tokenizer: Tokenizer, text: str, kind: str, message: str) -> None:
    with pytest.raises(SpecialTokenError, match=message) as error:
        tokenizer.encode(text, {})
    assert error.value.kind == kind


def test_the_empty_text_has_no_tokens(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("", {}) == ([], {})
    assert tokenizer.decode([], {}) == ""


def test_the_table_grows_on_a_copy_and_equal_strings_share_an_id(tokenizer: Tokenizer) -> None:
    first = tokenizer.vocab_size
    before = {first: "🐱"}
    ids, after = tokenizer.encode("🐶a🐱<ans_3>🐶", before)
    assert ids == [first + 1, *tokenizer.encode("a", {})[0], first, first + 2, first + 1]
    assert after == {first: "🐱", first + 1: "🐶", first + 2: "<ans_3>"}
    assert before == {first: "🐱"}


def test_decoding_prefers_the_table_and_skips_negative_ids(tokenizer: Tokenizer) -> None:
    a = tokenizer.encode("a", {})[0][0]
    assert tokenizer.decode([-3, a, -1], {}) == "a"
    assert tokenizer.decode([tokenizer.unk_id, a], {tokenizer.unk_id: "x<y"}) == "x<ya"
    assert tokenizer.decode([a, tokenizer.bos_id, *tokenizer.encode("<<", {})[0]], {}) == "a<s><<"
    with pytest.raises(KeyError):
        tokenizer.decode([tokenizer.vocab_size], {})


@pytest.mark.slow
@given(text=texts)
@settings(deadline=None, max_examples=150)
def test_escaped_text_survives_encoding_and_decoding(tokenizer: Tokenizer, text: str) -> None:
    ids, table = tokenizer.encode(escape(text), {})
    assert tokenizer.decode(ids, table) == escape(text)
    assert "".join(words(tokenizer, escape(text))) == text


@pytest.mark.slow
@given(text=texts)
@settings(deadline=None, max_examples=150)
def test_unescaping_undoes_escaping(text: str) -> None:
    assert unescape(escape(text)) == text


@pytest.mark.slow
@given(parts=st.lists(st.sampled_from(["<unk>", "<s>", "<>x>", "<<", "a", " ", "🐱", ">"]), max_size=12))
@settings(deadline=None, max_examples=150)
def test_texts_with_special_tokens_survive_and_unescape_token_by_token(tokenizer: Tokenizer, parts: list[str]) -> None:
    text = "".join(parts)
    ids, table = tokenizer.encode(text, {})
    assert tokenizer.decode(ids, table) == text
    assert unescape(text) == "".join("<" if part == "<<" else part for part in parts)


@pytest.mark.slow
@needs_published
def test_the_published_vocabulary_splits_as_the_reference() -> None:
    tokenizer = Tokenizer(PUBLISHED_VOCABULARY)
    expected = json.loads(PUBLISHED_EXAMPLES.read_text(encoding="utf-8"))
    assert tokenizer.special_ids == expected["special"]
    assert tokenizer.max_piece_length == expected["max_word_len"]
    for row in expected["encode"]:
        ids, table = tokenizer.encode(row["text"], {})
        assert (ids, {str(index): string for index, string in table.items()}) == (row["ids"], row["ext_table"])
    for row in expected["chat"]:
        packed = pack_tree(
            {"image": "<unk>" * 64, "context": row["context"], "question": row["question"], "<ans>": "<ans_1>"},
            tokenizer,
        )
        assert (packed.ids, packed.subs, packed.segments) == (row["ids"], row["subs"], row["segment_ids"])
        assert packed.contexts == row["context_flags"]
    for row in expected["paint"]:
        packed = pack_tree({"caption": row["prompt"], "objects": ""}, tokenizer)
        assert (packed.ids, packed.subs, packed.segments) == (row["ids"], row["subs"], row["segment_ids"])


@pytest.mark.slow
@needs_published
def test_the_published_vocabulary_loads_and_encodes_without_delay() -> None:
    started = time.process_time()
    tokenizer = Tokenizer(PUBLISHED_VOCABULARY)
    load_s = time.process_time() - started
    assert (tokenizer.vocab_size, tokenizer.max_piece_length) == (86583, 32)
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.encode("<<", {})[0]) == (6, 7, [40])

    text = "The quick brown fox jumps over 13 lazy dogs. 如果用李白的古诗来描述这幅图像，你能想到什么？" * 100
    started = time.process_time()
    ids, table = tokenizer.encode(text, {})
    encode_s = time.process_time() - started
    assert len(ids) == 2600 and table == {}
    # Ten times what is needed on a slow core; a scan over all lengths at each character would take far longer.
    assert load_s < 2 and encode_s < 0.25
