from pathlib import Path

import pytest
import torch

from models.checkpoints.tiny import write_tiny_checkpoints
from tests.models.clip import write_tiny_clip
from tests.models.evaluation.image_quality.pictures import TinyFeatures, save_script


@pytest.fixture(scope="session")
def network() -> TinyFeatures:
    torch.manual_seed(3)
    return TinyFeatures().eval().requires_grad_(False)


@pytest.fixture(scope="session")
def extractor_file(network: TinyFeatures, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_script(network, tmp_path_factory.mktemp("extractor") / "tiny.pt")


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random CLIP that reads at most 8 tokens."""
    folder = tmp_path_factory.mktemp("models") / "tiny-clip"
    write_tiny_clip(folder)
    return folder


@pytest.fixture(scope="session")
def paint_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints")
    write_tiny_checkpoints(folder, seed=0)
    return folder / "paint"
