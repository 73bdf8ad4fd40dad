"""Tiny random networks, quick enough for tests on one core."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import ChineseCLIPConfig, ChineseCLIPImageProcessor, ChineseCLIPModel

from models.checkpoints.tiny import write_tiny_checkpoints
from models.engines.paint.engine import PaintEngine, create_engine
from models.jobs import EngineConfig

CLIP_VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "红", "色", "的", "猫", "cat"]
CLIP_TOWER = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Chinese-CLIP laid out like the published one: no tokenizer files but the vocabulary."""
    folder = tmp_path_factory.mktemp("models") / "tiny-chinese-clip"
    torch.manual_seed(0)
    config = ChineseCLIPConfig(
        text_config=CLIP_TOWER | {"vocab_size": len(CLIP_VOCABULARY), "max_position_embeddings": 20},
        vision_config=CLIP_TOWER | {"image_size": 32, "patch_size": 16},
        projection_dim=8,
    )
    model = ChineseCLIPModel(config)
    for parameter in model.parameters():  # the towers' own start leaves all pictures with nearly one score
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    size = {"height": 32, "width": 32}
    ChineseCLIPImageProcessor(size=size, crop_size=size).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(CLIP_VOCABULARY), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def paint_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A converted Paint checkpoint with random weights; its sides are multiples of 32 px."""
    folder = tmp_path_factory.mktemp("checkpoints")
    write_tiny_checkpoints(folder, seed=0)
    return folder / "paint"


@pytest.fixture(scope="module")
def observed() -> list[tuple[str, float]]:
    return []


@pytest.fixture(scope="module")
def loaded_engine(paint_folder: Path, clip_folder: Path, observed: list[tuple[str, float]]) -> PaintEngine:
    config = EngineConfig(kind="paint", checkpoint=str(paint_folder), rerankers={"zh": str(clip_folder)}, max_jobs=3)
    return create_engine(config, lambda name, value: observed.append((name, value)))


@pytest.fixture
def engine(loaded_engine: PaintEngine) -> Iterator[PaintEngine]:
    assert loaded_engine.capacity == 3
    yield loaded_engine
    for job_id in list(loaded_engine._paintings):
        loaded_engine.cancel(job_id)


@pytest.fixture(scope="module")
def bare_engine(paint_folder: Path) -> PaintEngine:
    """Without a reranker, one job at a time."""
    return create_engine(EngineConfig(kind="paint", checkpoint=str(paint_folder)), lambda name, value: None)
