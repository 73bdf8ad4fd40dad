"""An image classifier in an ONNX file as an image screen, beside the configuration that its checkpoint has.

Covered: one input of pictures, N × 3 × height × width, and logits as the first output, as exporters of transformers'
image classification write them; labels out of `config.json`; of `preprocessor_config.json` the resize, the middle, the
scale, mean and deviation. It needs neither torch nor a GPU.
Not covered: what the labels mean: the policy says so. Preprocessing of other kinds is refused.

This module imports onnxruntime and numpy. The safety worker's engine loads it by its dotted name.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image

from safety.fingerprint import fingerprint

_MAX_BATCH = 8
_BILINEAR = 2  # of Pillow's filters; what a configuration that names none means

_Array = np.ndarray


class OnnxClassifier:
    """An image screen (safety.image.screen.ImageScreen) whose scores are by label."""

    name = "image-classifier"

    def __init__(self, weights: Path) -> None:
        """Raises ValueError where a file is missing or asks for what is not done here."""
        config = _json(weights.parent, "config.json")
        prepare = _json(weights.parent, "preprocessor_config.json")
        labels = config.get("id2label")
        if not isinstance(labels, dict) or not labels:
            raise ValueError(f"{weights.parent}/config.json has no id2label")
        self._labels = [str(labels[str(number)]) for number in range(len(labels))]
        self._is_multiple = config.get("problem_type") == "multi_label_classification"
        self._preprocessing = _Preprocessing(prepare)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(weights), options, providers=["CPUExecutionProvider"])
        [self._input] = [one.name for one in self._session.get_inputs()]
        parts = [weights.read_bytes(), json.dumps([config, prepare], sort_keys=True).encode()]
        self.fingerprint = fingerprint(__file__, ("numpy", "onnxruntime", "pillow"), parts)

    def scores(self, pictures: Sequence[Image.Image]) -> list[dict[str, float]]:
        found: list[dict[str, float]] = []
        for first in range(0, len(pictures), _MAX_BATCH):
            pixels = np.stack([self._preprocessing(one) for one in pictures[first : first + _MAX_BATCH]])
            logits = self._session.run(None, {self._input: pixels})[0].astype(np.float64)  # (B, labels)
            if logits.shape[1:] != (len(self._labels),):
                raise ValueError(f"the classifier has {len(self._labels)} labels, its file gave {logits.shape[1:]}")
            for row in _sigmoid(logits) if self._is_multiple else _softmax(logits):
                found.append({label: float(score) for label, score in zip(self._labels, row, strict=True)})
        return found


class _Preprocessing:
    """A picture as `preprocessor_config.json` wants it: (3, height, width), float32."""

    def __init__(self, config: dict[str, Any]) -> None:
        size = config.get("size", {})
        if isinstance(size, int):  # what a number alone means is the processor's
            kind = str(config.get("image_processor_type") or config.get("feature_extractor_type") or "")
            size = {"shortest_edge": size} if kind.startswith("CLIP") else {"height": size, "width": size}
        self._size = dict(size)
        if config.get("do_resize", True) and not (
            {"height", "width"} <= set(self._size) or "shortest_edge" in self._size
        ):
            raise ValueError(f"preprocessor_config.json: size is height and width, or shortest_edge, got {size!r}")
        self._resizes = bool(config.get("do_resize", True))
        self._filter = Image.Resampling(config.get("resample", _BILINEAR))
        crop = config.get("crop_size", {})
        self._crop = {"height": crop, "width": crop} if isinstance(crop, int) else dict(crop)
        self._crops = bool(config.get("do_center_crop", False))
        self._scale = float(config.get("rescale_factor", 1 / 255)) if config.get("do_rescale", True) else 1.0
        normalises = bool(config.get("do_normalize", True))
        self._mean = np.asarray(config.get("image_mean", [0.5] * 3) if normalises else [0.0] * 3, np.float32)
        self._deviation = np.asarray(config.get("image_std", [0.5] * 3) if normalises else [1.0] * 3, np.float32)

    def __call__(self, picture: Image.Image) -> _Array:
        if self._resizes:
            picture = picture.resize(self._target(picture), self._filter)
        if self._crops:
            width_px, height_px = self._crop["width"], self._crop["height"]
            left, top = (picture.width - width_px) // 2, (picture.height - height_px) // 2
            picture = picture.crop((left, top, left + width_px, top + height_px))
        pixels = np.asarray(picture.convert("RGB"), np.float32) * np.float32(self._scale)
        return np.ascontiguousarray(((pixels - self._mean) / self._deviation).transpose(2, 0, 1), np.float32)

    def _target(self, picture: Image.Image) -> tuple[int, int]:
        """Width and height to resize to."""
        if "shortest_edge" not in self._size:
            return self._size["width"], self._size["height"]
        scale = self._size["shortest_edge"] / min(picture.size)
        return max(1, int(picture.width * scale)), max(1, int(picture.height * scale))


def load_classifier(path: Path, device: str = "cpu") -> OnnxClassifier:
    """The classifier of a file, or of a folder's `model.onnx` or only ONNX file. Raises ValueError."""
    if path.is_file():
        return OnnxClassifier(path)
    files = sorted(path.glob("*.onnx"))
    chosen = path / "model.onnx" if (path / "model.onnx") in files else files[0] if len(files) == 1 else None
    if chosen is None:
        raise ValueError(f"{path} holds {len(files)} ONNX files and no model.onnx: name the file itself")
    return OnnxClassifier(chosen)


def _json(folder: Path, name: str) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads((folder / name).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{folder}/{name} cannot be read, and says what the classifier's file does not: {error}"
        ) from error
    return content


def _softmax(logits: _Array) -> _Array:
    powers: _Array = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def _sigmoid(logits: _Array) -> _Array:
    return np.asarray(1 / (1 + np.exp(-logits)))
