"""What a survey tells of checkpoints that are whole, and of the first thing that is wrong with others."""

import shutil
from pathlib import Path

import msgspec
import pytest

from models.checkpoints.bundled import bundled_checkpoint
from models.engines.offload.survey import survey
from models.jobs import EngineConfig, Model


def config(kind: Model, path: Path | None = None) -> EngineConfig:
    return EngineConfig(kind=kind, checkpoint=str(path or bundled_checkpoint(kind)))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["chat", "paint"])
def test_a_whole_checkpoint(kind: Model) -> None:
    found = survey(config(kind))
    assert found["trouble"] == []
    assert found["kind"] == kind and not found["untrained"]
    assert found["fingerprint"] == (bundled_checkpoint(kind) / "fingerprint").read_text().strip()
    assert 0 < found["weights_bytes"] < 2**27 < found["device_bytes"]
    assert found["plan"].endswith("GiB") and "float32" in found["plan"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "without", "part", "message"),
    [
        ("chat", "model-00001-of-00001.safetensors", "checkpoint", "shards are missing"),
        ("chat", "vocab.txt", "vocabulary", "no vocabulary at"),
        ("paint", "vae", "vae", "no VAE"),
    ],
)
def test_what_is_missing(kind: Model, without: str, part: str, message: str, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(bundled_checkpoint(kind), tmp_path / kind))
    lost = folder / without
    shutil.rmtree(lost) if lost.is_dir() else lost.unlink()
    found = survey(config(kind, folder))
    [(told_part, told)] = found["trouble"]
    assert told_part == part and message in told and "\n" not in told
    assert not found["plan"]


@pytest.mark.slow
def test_a_budget_is_kept_to_and_what_would_do_is_proposed() -> None:
    plain = config("chat")
    found = survey(msgspec.structs.replace(plain, vram_budget_bytes=2**30))
    assert found["trouble"] == [] and found["plan"].startswith("1.00 GiB for chat")
    found = survey(msgspec.structs.replace(plain, vram_budget_bytes=2**20))
    [(part, message)] = found["trouble"]
    assert part == "memory" and message.startswith("1.0 MiB are too little for chat")
    assert found["proposal"] == f"VISCPM_VRAM_BUDGET={found['device_bytes']} loads it as float32"


def test_a_device_that_is_not_there_is_told_beside_the_checkpoint() -> None:
    found = survey(msgspec.structs.replace(config("chat"), device="cuda:15", dtype="float16"))
    assert found["fingerprint"]
    [(part, message)] = found["trouble"]
    assert part == "device" and "cuda:15" in message
