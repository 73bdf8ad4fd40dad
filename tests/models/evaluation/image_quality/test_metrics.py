"""FID and CLIP score on networks from local files."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPModel, CLIPProcessor

from models.evaluation.errors import EvaluationError
from models.evaluation.image_quality.clip_model import load_clip
from models.evaluation.image_quality.feature_extractor import load_extractor
from models.evaluation.image_quality.metrics import ClipScore, FrechetDistance, measure_painted, measure_real
from models.evaluation.picture_files import read_picture, square, to_tensor
from tests.models.evaluation.image_quality.pictures import CPU, TinyFeatures, write_pictures


def root(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of a symmetric matrix without negative eigenvalues."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T


def frechet(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Straight from the definition, with a symmetric form of the product's root."""
    a, b = np.cov(first.T), np.cov(second.T)
    middle = root(root(a) @ b @ root(a))
    shift = first.mean(axis=0) - second.mean(axis=0)
    return float(shift @ shift + np.trace(a) + np.trace(b) - 2 * np.trace(middle))


def features(network: nn.Module, folder: Path, size_px: int) -> NDArray[np.float64]:
    pictures = [to_tensor(square(read_picture(file), size_px)) for file in sorted(folder.iterdir())]
    return network(torch.stack(pictures)).double().numpy()


@pytest.mark.slow
def test_the_distance_is_the_formula_s(network: TinyFeatures, extractor_file: Path, tmp_path: Path) -> None:
    real = write_pictures(tmp_path / "real", 41, seed=1)
    painted = write_pictures(tmp_path / "painted", 30, seed=2, size=(24, 24), tint=60)
    expected = frechet(features(network, real, 24), features(network, painted, 24))

    distance = FrechetDistance(load_extractor(extractor_file, CPU, 24), 24, CPU)
    finished: list[int] = []
    measure_real(distance, sorted(real.iterdir()), batch_size=16, num_workers=0, on_progress=finished.append)
    pictures = dict.fromkeys(sorted(painted.iterdir()), "")
    measure_painted(pictures, distance, None, 24, batch_size=7, num_workers=0, on_progress=finished.append)

    assert finished == [16, 16, 9, 7, 7, 7, 7, 2]
    assert (distance.num_real, distance.num_painted) == (41, 30)
    assert distance.compute() == pytest.approx(expected, rel=1e-3)
    assert expected > 0.001


@pytest.mark.slow
def test_saved_statistics_stand_for_the_real_pictures(extractor_file: Path, tmp_path: Path) -> None:
    real, painted = write_pictures(tmp_path / "real", 12, seed=1), write_pictures(tmp_path / "p", 12, seed=2, tint=50)
    extractor = load_extractor(extractor_file, CPU, 24)
    first = FrechetDistance(extractor, 24, CPU)
    measure_real(first, sorted(real.iterdir()), 5, 0, lambda count: None)
    first.save_real(tmp_path / "real.safetensors", "real")
    second = FrechetDistance(extractor, 24, CPU)
    assert second.load_real(tmp_path / "real.safetensors") == "real"
    for distance in (first, second):
        measure_painted(dict.fromkeys(sorted(painted.iterdir()), ""), distance, None, 24, 5, 0, lambda count: None)
    assert second.num_real == 12
    assert second.compute() == first.compute()

    with pytest.raises(EvaluationError, match="size_px 24, but size_px 32 is asked for"):
        FrechetDistance(extractor, 32, CPU).load_real(tmp_path / "real.safetensors")
    save_file({"mu": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(EvaluationError, match="no statistics"):
        second.load_real(tmp_path / "other.safetensors")
    with pytest.raises(EvaluationError, match="at least 2 pictures"):
        FrechetDistance(extractor, 24, CPU).compute()


@pytest.mark.slow
def test_the_clip_score_is_the_cosine(clip_folder: Path, tmp_path: Path) -> None:
    painted = sorted(write_pictures(tmp_path / "painted", 3, seed=5).iterdir())
    captions = ["a cat", "dog", "a"]
    score = ClipScore(load_clip(clip_folder, CPU), CPU)
    measure_painted(dict(zip(painted, captions, strict=True)), None, score, 32, 2, 0, lambda count: None)

    model, processor = CLIPModel.from_pretrained(clip_folder), CLIPProcessor.from_pretrained(clip_folder)
    with torch.inference_mode():
        inputs = processor(
            text=captions, images=[read_picture(file) for file in painted], return_tensors="pt", padding=True
        )
        output = model(**inputs)
        cosines = (output.image_embeds * output.text_embeds).sum(-1)
    assert score.compute() == pytest.approx(max(100 * cosines.mean().item(), 0), abs=1e-3)
    assert cosines.std() > 0.01, "pictures that score alike would show nothing"
