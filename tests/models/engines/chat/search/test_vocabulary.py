"""Logit columns: the vocabulary's, then the batch's extension words; which of them a sentence may use."""

import pytest
import torch

from models.checkpoints.loading import LoadedChat
from models.engines.chat.prompt import chat_tree
from models.engines.chat.search.vocabulary import MASKED_LOGIT, AnswerVocabulary, penalise_repetition
from models.networks.cpm_bee.packing import pack_chat

CPU = torch.device("cpu")
VOCAB_SIZE, UNK = 6, 1


def vocabulary(*tables: dict[int, str]) -> AnswerVocabulary:
    """Two extension columns, 6 and 7, of the family of UNK."""
    return AnswerVocabulary(
        vocab_size=VOCAB_SIZE,
        bos_id=2,
        eos_id=3,
        unk_id=UNK,
        extension_ids=[UNK, UNK],
        extension_subs=[1, 2],
        tables=tables,
        segments=[8] * len(tables),
    )


def test_a_batch_tells_its_columns_and_each_sentences_answer_segment(loaded: LoadedChat) -> None:
    tokenizer, size = loaded.tokenizer, loaded.tokenizer.vocab_size
    batch = pack_chat([chat_tree("日", "", 4), chat_tree("a", "", 0), chat_tree("本 日 中", "", 4)], tokenizer)
    found = AnswerVocabulary.of_batch(batch, tokenizer)
    assert (found.vocab_size, found.bos_id, found.eos_id, found.unk_id) == (
        size,
        tokenizer.bos_id,
        tokenizer.eos_id,
        tokenizer.unk_id,
    )
    assert found.segments == [leaves[0][0] for leaves in batch.predict_segments]
    assert len(set(found.segments)) == 2, "a tree without a picture has fewer segments"
    words = [table.get(column, "") for table in found.tables for column in [UNK, size, size + 1, size + 2]]
    assert set(words) >= {"日", "本"}
    assert len(found.extension_ids) == len(found.extension_subs) == len(batch.extension_ids)
    for column in range(size, size + len(found.extension_ids)):
        assert any(column in table for table in found.tables), "a column that no sentence may use"


def test_a_prompt_with_two_answers_has_no_answer_vocabulary(loaded: LoadedChat) -> None:
    batch = pack_chat([{"question": "a", "<ans>": {"a": "", "b": ""}}], loaded.tokenizer)
    with pytest.raises(AssertionError, match="one answer, got 2"):
        AnswerVocabulary.of_batch(batch, loaded.tokenizer)


def test_a_column_is_fed_as_itself_or_as_its_family_and_sub_index() -> None:
    assert [vocabulary({}).fed(column) for column in (0, 5, 6, 7)] == [(0, 0), (5, 0), (UNK, 1), (UNK, 2)]


def test_a_sentence_may_use_its_own_words_alone() -> None:
    mask = vocabulary({UNK: "甲"}, {7: "丙"}, {}).column_mask(CPU)
    logits = torch.arange(3 * 2 * 8, dtype=torch.float32).view(3, 2, 8)
    before = logits.clone()
    mask.apply(logits)
    blocked = [[6, 7], [UNK, 6], [UNK, 6, 7]]
    for row, columns in enumerate(blocked):
        for column in range(8):
            expected = torch.full((2,), MASKED_LOGIT) if column in columns else before[row, :, column]
            assert torch.equal(logits[row, :, column], expected), (row, column)


def test_repetition_moves_logits_away_from_what_was_fed() -> None:
    logits = torch.tensor([[[3.0, -3.0, 0.0, 6.0]]])
    penalise_repetition(logits, torch.tensor([[[0, 1, 2]]]), 1.5)
    assert logits.tolist() == [[[2.0, -4.5, 0.0, 6.0]]]


def test_an_id_that_was_fed_twice_is_penalised_once() -> None:
    logits = torch.tensor([[[4.0, 4.0]], [[4.0, 4.0]]])
    penalise_repetition(logits, torch.tensor([[[0, 0, 0]], [[1, 0, 1]]]), 2.0)
    assert logits.tolist() == [[[2.0, 4.0]], [[2.0, 2.0]]]


def test_a_penalty_of_1_changes_nothing() -> None:
    logits = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(0))
    before = logits.clone()
    penalise_repetition(logits, torch.zeros(2, 3, 4, dtype=torch.int64), 1.0)
    assert torch.equal(logits, before)


def test_a_blocked_column_stays_blocked_whatever_the_penalty() -> None:
    """A penalty multiplies what is masked, where -inf times 0 would be NaN."""
    logits = torch.zeros(1, 1, 8)
    vocabulary({}).column_mask(CPU).apply(logits)
    penalise_repetition(logits, torch.tensor([[[UNK, 6]]]), 1.1)
    assert logits.isfinite().all()
    assert logits[0, 0, UNK] == logits[0, 0, 6] == pytest.approx(MASKED_LOGIT * 1.1)
    assert torch.softmax(logits, -1)[0, 0, [UNK, 6, 7]].tolist() == [0, 0, 0]
