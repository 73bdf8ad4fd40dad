"""Fréchet distance to real pictures, and CLIP score against captions, over any number of files.

Both are torchmetrics'. Pictures stream through in batches, each file is decoded once, and only sums are kept. The real
pictures' sums can be saved and used again.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.multimodal.clip_score import CLIPScore

from models.evaluation.errors import EvaluationError
from models.evaluation.image_quality.feature_extractor import FeatureExtractor
from models.evaluation.json_lines import write_whole
from models.evaluation.picture_files import read_picture, square, to_tensor

STATISTICS_FORMAT = "viscpm-fid-statistics-1"
_STATES = ("real_features_sum", "real_features_cov_sum", "real_features_num_samples")

OnProgress = Callable[[int], object]


@dataclass(frozen=True)
class Batch:
    """Some pictures: all of one size for the distance, as they are for CLIP."""

    squares: Tensor  # (B, 3, S, S) uint8
    pictures: list[Tensor]  # (3, H, W) uint8 each
    places: list[int]  # in the list of files


class PictureFiles(Dataset[tuple[Tensor, Tensor, int]]):
    """Decoded files; where the loader has workers, they decode."""

    def __init__(self, files: Sequence[Path], size_px: int) -> None:
        self._files = files
        self._size_px = size_px

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, place: int) -> tuple[Tensor, Tensor, int]:
        picture = read_picture(self._files[place])
        return to_tensor(square(picture, self._size_px)), to_tensor(picture), place


def stream(files: Sequence[Path], size_px: int, batch_size: int, num_workers: int) -> Iterator[Batch]:
    """Files in their order. Raises EvaluationError for one that is no picture."""
    dataset = PictureFiles(files, size_px)
    yield from DataLoader(dataset, batch_size, num_workers=num_workers, collate_fn=_collate)


def _collate(items: Sequence[tuple[Tensor, Tensor, int]]) -> Batch:
    squares, pictures, places = zip(*items, strict=True)
    return Batch(torch.stack(squares), list(pictures), list(places))


class FrechetDistance:
    """The distance between real and painted pictures' features, as their normal distributions.

    Args:
        size_px: side that all pictures are brought to before the extractor sees them.
    """

    def __init__(self, extractor: FeatureExtractor, size_px: int, device: torch.device) -> None:
        self.extractor = extractor
        self.size_px = size_px
        self._device = device
        self._metric = FrechetInceptionDistance(feature=extractor.module, reset_real_features=False).to(device)

    @property
    def num_real(self) -> int:
        return int(self._metric.real_features_num_samples)

    @property
    def num_painted(self) -> int:
        return int(self._metric.fake_features_num_samples)

    @torch.inference_mode()
    def update(self, squares: Tensor, real: bool) -> None:
        """Adds pictures (B, 3, S, S) uint8."""
        self._metric.update(squares.to(self._device), real=real)

    def compute(self) -> float:
        """Raises EvaluationError for fewer than two pictures on a side."""
        if min(self.num_real, self.num_painted) < 2:
            raise EvaluationError(
                f"the Fréchet distance needs at least 2 pictures on each side, got {self.num_real} real and "
                f"{self.num_painted} painted"
            )
        return float(self._metric.compute())

    def save_real(self, file: Path, source: str) -> None:
        """Writes the real pictures' sums, with what they were made by."""
        tensors = {name: getattr(self._metric, name).cpu().contiguous() for name in _STATES}
        about = {**self._about(), "source": source, "format": STATISTICS_FORMAT}
        write_whole(file, save(tensors, metadata={name: json.dumps(value) for name, value in about.items()}))

    def load_real(self, file: Path) -> str:
        """Takes the real pictures' sums from a file; returns where they are from.

        Raises:
            EvaluationError: no such statistics, or made by another extractor or at another size.
        """
        about, tensors = read_statistics(file)
        for name, ours in self._about().items():
            if about.get(name) != ours:
                raise EvaluationError(
                    f"{file}: statistics with {name} {about.get(name)}, but {name} {ours} is asked for"
                )
        for name in _STATES:
            getattr(self._metric, name).copy_(tensors[name])
        return str(about.get("source", ""))

    def _about(self) -> dict[str, Any]:
        return {"extractor_sha256": self.extractor.sha256, "size_px": self.size_px}


def read_statistics(file: Path) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
    """What a file of real pictures' sums says of itself, and the sums. Raises EvaluationError."""
    try:
        with safe_open(file, framework="pt") as opened:
            about = {name: json.loads(value) for name, value in (opened.metadata() or {}).items()}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, ValueError) as error:
        raise EvaluationError(f"{file}: no statistics of real pictures: {error}") from None
    if about.get("format") != STATISTICS_FORMAT or set(tensors) != set(_STATES):
        raise EvaluationError(f"{file}: no statistics of real pictures, which --save-real-statistics writes")
    return about, tensors


class ClipScore:
    """Mean of 100 times the cosine between pictures and their captions."""

    def __init__(self, clip: tuple[Any, Any], device: torch.device) -> None:
        self._device = device
        self._metric = CLIPScore(model_name_or_path=lambda: clip).to(device)

    @torch.inference_mode()
    def update(self, pictures: Sequence[Tensor], captions: Sequence[str]) -> None:
        """Adds pictures (3, H, W) uint8 and as many captions."""
        self._metric.update([picture.to(self._device) for picture in pictures], list(captions))

    def compute(self) -> float:
        return float(self._metric.compute())


def measure_real(
    distance: FrechetDistance, files: Sequence[Path], batch_size: int, num_workers: int, on_progress: OnProgress
) -> None:
    for batch in stream(files, distance.size_px, batch_size, num_workers):
        distance.update(batch.squares, real=True)
        on_progress(len(batch.places))


def measure_painted(
    painted: Mapping[Path, str],
    distance: FrechetDistance | None,
    score: ClipScore | None,
    size_px: int,
    batch_size: int,
    num_workers: int,
    on_progress: OnProgress,
) -> None:
    """One pass over painted pictures and their captions for both measures."""
    captions = list(painted.values())
    for batch in stream(list(painted), size_px, batch_size, num_workers):
        if distance is not None:
            distance.update(batch.squares, real=False)
        if score is not None:
            score.update(batch.pictures, [captions[place] for place in batch.places])
        on_progress(len(batch.places))
