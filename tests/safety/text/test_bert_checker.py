"""The release's prompt checker, with a tiny random BERT in its place."""

from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, pipeline

from safety.policy import load_policy
from safety.text.bert_checker import BertChecker
from safety.verdict import Finding

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"画一只猫坏人刀血风景山水"]
BAD = "坏"


def write_checker(folder: Path, **changes: object) -> Path:
    """A random classifier that finds its unsafe label by the character `坏`."""
    torch.manual_seed(0)
    (folder / "vocab.txt").write_text("\n".join(WORDS), "utf-8")
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=16,
        initializer_range=0.5,
        **changes,
    )
    BertForSequenceClassification(config).eval().save_pretrained(folder)
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_checker(tmp_path)


def with_bias(folder: Path, *logits: float) -> BertChecker:
    """A checker that says the same of every text."""
    model = BertForSequenceClassification.from_pretrained(folder)
    torch.nn.init.zeros_(model.classifier.weight)
    model.classifier.bias.data = torch.tensor(logits)
    model.save_pretrained(folder)
    return BertChecker(folder)


@pytest.mark.slow
def test_scores_equal_the_released_pipeline(folder: Path) -> None:
    texts = ["画一只猫", "坏人刀血", "风景山水", "坏坏坏坏", "猫"]
    reference = pipeline("text-classification", model=str(folder), top_k=None)
    for text, scores in zip(texts, BertChecker(folder).scores(texts), strict=True):
        top = reference([text])[0][0]
        expected = top["score"] if top["label"] == "LABEL_1" else 0.0
        assert scores == {"unsafe": pytest.approx(expected, abs=1e-5)}


@pytest.mark.slow
@pytest.mark.parametrize(("logit", "decision"), [(1.09, "pass"), (1.11, "block"), (-3.0, "pass")])
def test_the_release_refuses_above_three_quarters(folder: Path, logit: float, decision: str) -> None:
    """log 3 = 1.0986 against 0 is a probability of exactly 0.75."""
    (scores,) = with_bias(folder, 0.0, logit).scores(["猫"])
    assert load_policy().decide("prompt", [Finding("prompt-checker", scores)], "zh").decision == decision


@pytest.mark.slow
def test_only_the_highest_label_counts(tmp_path: Path) -> None:
    checker = with_bias(write_checker(tmp_path, num_labels=3), 1.0, 0.9, 0.0)
    assert checker.scores(["猫"]) == [{"unsafe": 0.0}]


def test_every_part_of_a_long_text_is_read(folder: Path) -> None:
    checker = BertChecker(folder)
    long = "山水" * 40
    alone, hidden = checker.scores([long, long + BAD * 8 + long])
    assert alone != hidden
    one_by_one = [checker.scores([text])[0]["unsafe"] for text in (long, "猫", long + BAD)]
    assert [scores["unsafe"] for scores in checker.scores([long, "猫", long + BAD])] == pytest.approx(
        one_by_one, abs=1e-5
    )


@pytest.mark.slow
def test_the_unsafe_label_is_configured_and_must_exist(folder: Path) -> None:
    first, second = (
        BertChecker(folder, unsafe_label=label).scores(["猫"])[0]["unsafe"] for label in ("LABEL_0", "LABEL_1")
    )
    assert (first == 0) != (second == 0)
    with pytest.raises(ValueError, match="has the labels LABEL_0, LABEL_1, got 'nsfw'"):
        BertChecker(folder, unsafe_label="nsfw")


@pytest.mark.slow
def test_whatever_changes_scores_changes_the_fingerprint(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("safety.fingerprint._SMALL_BYTES", (folder / "model.safetensors").stat().st_size - 1)
    told = [BertChecker(folder).fingerprint, BertChecker(folder, unsafe_label="LABEL_0").fingerprint]
    told.append(with_bias(folder, 0.0, 1.0).fingerprint)
    told.append(with_bias(folder, 0.0, 1.5).fingerprint)
    words = (folder / "vocab.txt").read_text("utf-8").replace("刀\n血", "血\n刀")
    (folder / "vocab.txt").write_text(words, "utf-8")
    told.append(BertChecker(folder).fingerprint)
    assert len(set(told)) == 5
    assert BertChecker(folder).fingerprint == told[-1]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nowhere"):
        BertChecker(tmp_path / "nowhere")
