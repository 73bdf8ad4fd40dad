"""A tiny Paint model to begin with, and the files of one."""

from pathlib import Path

import pytest
import torch

from models.training.paint.start import PaintStart, paint_from_sizes
from tests.models.training.paint.pictures import write_start


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_start(tmp_path_factory.mktemp("paint") / "start")


@pytest.fixture
def start(files: dict[str, Path]) -> PaintStart:
    """Random weights, those that training from scratch begins with at 0 included."""
    found = paint_from_sizes(files["sizes"], files["vocabulary"], files["vae"], seed=0)
    generator = torch.Generator().manual_seed(0)
    for parameter in found.model.unet.parameters():
        if not parameter.any():
            parameter.data.normal_(0, 0.05, generator=generator)
    return found
