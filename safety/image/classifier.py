"""Any image classification checkpoint of transformers as an image screen, from configured local weights.

Covered: its labels with their probabilities, softmax over labels that exclude one another and a sigmoid for each of
those that do not; the preprocessing of its own configuration.
Not covered: what the labels mean: the policy says so. Code that a checkpoint brings along is never run.

This module imports torch. The safety worker's engine loads it by its dotted name.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageClassification

from safety.fingerprint import fingerprint, small_files

_MAX_BATCH = 8


class ImageClassifier:
    """An image screen (safety.image.screen.ImageScreen) whose scores are by label."""

    name = "image-classifier"

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        """Load weights and preprocessing; the network is never asked."""
        model: Any = AutoModelForImageClassification.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
        self._model = model.to(device).eval()
        self._processor: Any = AutoImageProcessor.from_pretrained(folder, local_files_only=True)
        self._labels = [str(model.config.id2label[number]) for number in range(model.config.num_labels)]
        self._is_multiple = model.config.problem_type == "multi_label_classification"
        self._device = device
        parts = (*small_files(folder), *_tensors(model))
        self.fingerprint = fingerprint(__file__, ("pillow", "torch", "torchvision", "transformers"), parts)

    @torch.inference_mode()
    def scores(self, pictures: Sequence[Image.Image]) -> list[dict[str, float]]:
        found: list[dict[str, float]] = []
        for first in range(0, len(pictures), _MAX_BATCH):
            pixels = self._processor(list(pictures[first : first + _MAX_BATCH]), return_tensors="pt").pixel_values
            logits = self._model(pixel_values=pixels.to(self._device)).logits.float()  # (B, labels)
            probabilities = logits.sigmoid() if self._is_multiple else logits.softmax(-1)
            found += [dict(zip(self._labels, row, strict=True)) for row in probabilities.tolist()]
        return found


def load_classifier(folder: Path, device: str = "cpu") -> ImageClassifier:
    """The classifier of a folder. Raises OSError or ValueError where it holds none."""
    return ImageClassifier(folder, device)


def _tensors(model: torch.nn.Module) -> Iterable[bytes | memoryview]:
    """Name and values of each."""
    for name, tensor in model.state_dict().items():
        yield name.encode()
        yield memoryview(tensor.cpu().contiguous().numpy())
