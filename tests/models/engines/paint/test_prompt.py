"""Prompts of paint jobs: two texts, one batch (SPEC §3.2, §8.1)."""

import pytest

from models.engines.paint.prompt import NEGATIVE_ROW, PROMPT_ROW, pack_job, paint_tree, unknown_words
from models.jobs import JobRejected, PaintJob
from models.networks.cpm_bee.packing import pack_paint
from models.networks.cpm_bee.tokenizer import Tokenizer


def job(prompt: str, negative_prompt: str = "", raw_text: bool = False) -> PaintJob:
    return PaintJob(job_id="job", prompt=prompt, negative_prompt=negative_prompt, raw_text=raw_text)


@pytest.mark.parametrize(("prompt", "negative"), [("a red image", ""), ("a", "a very long negative prompt")])
def test_both_texts_are_padded_to_the_longer(tokenizer: Tokenizer, prompt: str, negative: str) -> None:
    batch = pack_job(job(prompt, negative), tokenizer)
    lengths = {}
    for row, text in ((NEGATIVE_ROW, negative), (PROMPT_ROW, prompt)):
        alone = pack_paint([paint_tree(text)], tokenizer)
        lengths[row] = int(alone.lengths[0])
        assert batch.ids[row, : lengths[row]].tolist() == alone.ids[0].tolist()
        assert not batch.ids[row, lengths[row] :].any()
    assert batch.ids.shape[1] == max(lengths.values())
    assert batch.padding == "right"


def test_prompts_are_plain_text_unless_raw(tokenizer: Tokenizer) -> None:
    plain = pack_job(job("a <mask>", "<"), tokenizer)
    escaped = pack_job(job("a <<mask>", "<<", raw_text=True), tokenizer)
    assert plain.ids.tolist() == escaped.ids.tolist()
    mask = tokenizer.special_ids["<mask>"]
    assert mask not in plain.ids
    assert mask in pack_job(job("a <mask>", raw_text=True), tokenizer).ids


@pytest.mark.parametrize(("prompt", "negative"), [("a<b", ""), ("a", "x <"), ("<foo>", "")])
def test_raw_text_that_does_not_parse_is_rejected(tokenizer: Tokenizer, prompt: str, negative: str) -> None:
    with pytest.raises(JobRejected) as error:
        pack_job(job(prompt, negative, raw_text=True), tokenizer)
    assert error.value.code == "invalid_request"


def test_both_texts_are_folded_unless_raw(tokenizer: Tokenizer) -> None:
    folded = pack_job(job("A <MASK>", "RED"), tokenizer, str.lower)
    assert folded.ids.tolist() == pack_job(job("a <mask>", "red"), tokenizer).ids.tolist()
    raw = job("A <mask>", "RED", raw_text=True)
    assert pack_job(raw, tokenizer, str.lower).ids.tolist() == pack_job(raw, tokenizer).ids.tolist()


@pytest.mark.parametrize(
    ("made", "unknown"),
    [
        (job("a red image"), []),
        (job("a 🍎 and 🍎🍐, 🍎"), ["🍎", "🍎🍐"]),
        (job("red", "🍐"), ["🍐"]),
        (job("red 🍎", "a 🍐 or 🍎"), ["🍎", "🍐"]),
        (job("猫\u200b"), ["\u200b"]),
        (job("a <unk> 🍎"), ["🍎"]),
        (job("<mask>🍎", raw_text=True), ["🍎"]),
        (job("?"), []),
    ],
)
def test_words_that_the_vocabulary_lacks_are_told(tokenizer: Tokenizer, made: PaintJob, unknown: list[str]) -> None:
    assert unknown_words(made, tokenizer) == unknown


def test_few_and_short_ones_are_told(tokenizer: Tokenizer) -> None:
    many = " ".join(chr(0x1F34E + number) for number in range(40))
    assert unknown_words(job(f"red {many}"), tokenizer) == many.split()[:16]
    assert unknown_words(job("red " + "🍎" * 500), tokenizer) == ["🍎" * 64]


@pytest.mark.parametrize(
    "made",
    [
        *(job("🍎"), job("\u200b"), job("🍎 🍐\n"), job("  "), job("🍎", "red")),
        *(job("<unk>", raw_text=True), job("<unk> <unk_2>🍎", raw_text=True)),
    ],
)
def test_a_prompt_of_which_nothing_is_known_is_rejected(tokenizer: Tokenizer, made: PaintJob) -> None:
    with pytest.raises(JobRejected, match="prompt: the model's vocabulary has a token for none of it") as error:
        unknown_words(made, tokenizer)
    assert error.value.code == "unknown_words"
    assert repr(made.prompt) in error.value.message
