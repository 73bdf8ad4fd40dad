"""A checkpoint of transformers as an image screen: a tiny vision transformer of random weights, and its labels."""

from pathlib import Path

import pytest
import torch
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

from safety.image.classifier import load_classifier
from safety.policy import Policy, PolicyError, load_policy
from safety.verdict import Finding
from tests.safety.pictures import scene

LABELS = {0: "normal", 1: "nsfw"}


def write_classifier(folder: Path, seed: int = 0, **changes: object) -> Path:
    torch.manual_seed(seed)
    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=32,
        patch_size=8,
        initializer_range=0.5,
        id2label=LABELS,
        label2id={label: number for number, label in LABELS.items()},
        **changes,
    )
    ViTForImageClassification(config).eval().save_pretrained(folder)
    size = {"height": 32, "width": 32}
    ViTImageProcessor(size=size, image_mean=[0.4, 0.5, 0.6], image_std=[0.2, 0.3, 0.4]).save_pretrained(folder)
    return folder


def by_hand(folder: Path, seeds: range) -> torch.Tensor:
    model = ViTForImageClassification.from_pretrained(folder)
    pixels = ViTImageProcessor.from_pretrained(folder)([scene(60, 40, seed) for seed in seeds], return_tensors="pt")
    with torch.no_grad():
        return model(**pixels).logits


@pytest.mark.slow
def test_scores_are_the_labels_probabilities(tmp_path: Path) -> None:
    classifier = load_classifier(write_classifier(tmp_path))
    expected = by_hand(tmp_path, range(10)).softmax(-1).tolist()  # more than one batch
    scores = classifier.scores([scene(60, 40, seed) for seed in range(10)])
    assert [list(one) for one in scores] == [["normal", "nsfw"]] * 10 and classifier.name == "image-classifier"
    for one, row in zip(scores, expected, strict=True):
        assert list(one.values()) == pytest.approx(row, abs=1e-5)


@pytest.mark.slow
def test_labels_that_do_not_exclude_one_another_have_a_probability_each(tmp_path: Path) -> None:
    write_classifier(tmp_path, problem_type="multi_label_classification")
    [scores] = load_classifier(tmp_path).scores([scene(60, 40, 0)])
    assert list(scores.values()) == pytest.approx(by_hand(tmp_path, range(1)).sigmoid()[0].tolist(), abs=1e-5)


@pytest.mark.slow
def test_other_weights_labels_or_preprocessing_are_another_version(tmp_path: Path) -> None:
    versions = [load_classifier(write_classifier(tmp_path)).fingerprint for _ in range(2)]
    assert versions[0] == versions[1]
    versions.append(load_classifier(write_classifier(tmp_path, seed=1)).fingerprint)
    for name, old, new in (("config.json", "nsfw", "porn"), ("preprocessor_config.json", "0.6", "0.7")):
        path = tmp_path / name
        path.write_text(path.read_text().replace(old, new))
        versions.append(load_classifier(tmp_path).fingerprint)
    assert len(set(versions)) == 4


def test_the_policy_says_what_the_labels_mean(tmp_path: Path) -> None:
    policy = load_policy()
    unsafe = policy.decide("candidate", [Finding("image-classifier", {"normal": 0.1, "nsfw": 0.9})])
    assert unsafe.is_blocked and unsafe.scores["sexual"] == 0.9 and unsafe.found == ("sexual",)
    both = policy.decide("candidate", [Finding("image-classifier", {"porn": 0.4, "hentai": 0.5, "neutral": 0.1})])
    assert both.is_blocked and both.scores["sexual"] == 0.9
    with pytest.raises(PolicyError, match="labels of image-classifier: spam is missing"):
        policy.decide("candidate", [Finding("image-classifier", {"spam": 0.1})])
    assert isinstance(policy, Policy)
