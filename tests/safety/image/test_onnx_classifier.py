"""A classifier in an ONNX file: the same scores as its checkpoint, without torch."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from transformers import AutoImageProcessor

from safety.image.onnx_classifier import _Preprocessing, load_classifier
from tests.safety.pictures import scene

CONFIG = {"id2label": {"0": "sfw", "1": "nsfw"}}
PREPARE = {"size": {"height": 8, "width": 8}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}


def _varint(number: int) -> bytes:
    data = b""
    while number > 127:
        data += bytes([number % 128 + 128])
        number //= 128
    return data + bytes([number])


def _field(number: int, value: int | bytes | str) -> bytes:
    """One of a protocol buffer: the file format of ONNX, for which there is no package here."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    value = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _tensor(name: str, values: np.ndarray) -> bytes:
    kind = 1 if values.dtype == np.float32 else 7
    dims = b"".join(_field(1, size) for size in values.shape)
    return dims + _field(2, kind) + _field(8, name) + _field(9, values.tobytes())


def _value(name: str, *dims: int) -> bytes:
    shape = b"".join(_field(1, _field(1, size) if size else _field(2, "batch")) for size in dims)
    return _field(1, name) + _field(2, _field(1, _field(1, 1) + _field(2, shape)))


def write_onnx(folder: Path, weights: np.ndarray | None = None, file: str = "model.onnx") -> Path:
    """logits = flattened pixels x weights: (B, 3, 8, 8) to (B, 2)."""
    if weights is None:
        weights = np.random.default_rng(0).normal(size=(192, 2)).astype(np.float32)
    flatten = _field(1, "pixel_values") + _field(2, "flat") + _field(4, "Flatten")
    product = _field(1, "flat") + _field(1, "weights") + _field(2, "logits") + _field(4, "MatMul")
    graph = _field(1, flatten) + _field(1, product) + _field(2, "classifier") + _field(5, _tensor("weights", weights))
    graph += _field(11, _value("pixel_values", 0, 3, 8, 8)) + _field(12, _value("logits", 0, 2))
    model = _field(1, 8) + _field(7, graph) + _field(8, _field(1, "") + _field(2, 13))
    (folder / file).write_bytes(model)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPARE))
    return folder


def test_scores_are_the_labels_probabilities(tmp_path: Path) -> None:
    weights = np.random.default_rng(1).normal(size=(192, 2)).astype(np.float32)
    classifier = load_classifier(write_onnx(tmp_path, weights))
    pictures = [scene(20, 30, seed) for seed in range(10)]
    for picture, scores in zip(pictures, classifier.scores(pictures), strict=True):
        resized = picture.resize((8, 8), Image.Resampling.BILINEAR)
        pixels = (np.asarray(resized, np.float32) / 255 - 0.5) / 0.5
        logits = pixels.transpose(2, 0, 1).reshape(-1) @ weights
        powers = np.exp(logits - logits.max())
        assert list(scores) == ["sfw", "nsfw"]
        assert list(scores.values()) == pytest.approx((powers / powers.sum()).tolist(), abs=1e-5)


def test_labels_that_do_not_exclude_one_another_have_a_probability_each(tmp_path: Path) -> None:
    write_onnx(tmp_path)
    [one] = load_classifier(tmp_path).scores([scene(20, 30, 0)])
    multiple = CONFIG | {"problem_type": "multi_label_classification"}
    (tmp_path / "config.json").write_text(json.dumps(multiple))
    [other] = load_classifier(tmp_path).scores([scene(20, 30, 0)])
    assert sum(one.values()) == pytest.approx(1) and sum(other.values()) != pytest.approx(1)


@pytest.mark.parametrize(
    "changes",
    [
        {"size": 16},
        {"size": {"shortest_edge": 12}, "do_center_crop": True, "crop_size": 8},
        {"do_normalize": False, "size": {"height": 4, "width": 6}, "resample": 3},
        {"do_rescale": False, "size": {"height": 4, "width": 6}},
    ],
)
def test_pictures_are_prepared_as_transformers_prepares_them(changes: dict[str, object], tmp_path: Path) -> None:
    config = {
        "image_processor_type": "CLIPImageProcessor",
        "do_center_crop": False,
        "resample": 2,
        **PREPARE,
        **changes,
    }
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(config))
    picture = scene(40, 30, 3)
    processor = AutoImageProcessor.from_pretrained(tmp_path)
    theirs = np.asarray(processor(picture, return_tensors="pt").pixel_values[0])
    ours = _Preprocessing(config)(picture)
    assert ours.shape == theirs.shape and ours.dtype == np.float32
    levels = 1.0 if not config.get("do_rescale", True) else 1 / 255
    assert np.abs(ours - theirs).max() <= 2.01 * levels / 0.5  # resized by Pillow or torchvision


def test_a_file_may_be_named_and_must_be_where_there_are_several(tmp_path: Path) -> None:
    write_onnx(tmp_path, file="model_int8.onnx")
    assert load_classifier(tmp_path).fingerprint == load_classifier(tmp_path / "model_int8.onnx").fingerprint
    write_onnx(tmp_path, file="model_fp16.onnx")
    with pytest.raises(ValueError, match="2 ONNX files and no model.onnx"):
        load_classifier(tmp_path)


def test_other_weights_labels_or_preprocessing_are_another_version(tmp_path: Path) -> None:
    versions = [load_classifier(write_onnx(tmp_path)).fingerprint]
    versions.append(load_classifier(write_onnx(tmp_path, np.zeros((192, 2), np.float32))).fingerprint)
    (tmp_path / "config.json").write_text(json.dumps({"id2label": {"0": "safe", "1": "nsfw"}}))
    versions.append(load_classifier(tmp_path).fingerprint)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(PREPARE | {"resample": 3}))
    versions.append(load_classifier(tmp_path).fingerprint)
    assert len(set(versions)) == 4


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", "{}", "no id2label"),
        ("config.json", "no json", "config.json cannot be read"),
        ("preprocessor_config.json", '{"size": {"longest_edge": 8}}', "height and width, or shortest_edge"),
    ],
)
def test_what_is_missing_beside_the_file_is_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    write_onnx(tmp_path)
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        load_classifier(tmp_path)


def test_a_file_with_other_outputs_than_labels_fails(tmp_path: Path) -> None:
    write_onnx(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"id2label": {"0": "a", "1": "b", "2": "c"}}))
    with pytest.raises(ValueError, match="3 labels"):
        load_classifier(tmp_path).scores([scene(20, 30, 0)])
