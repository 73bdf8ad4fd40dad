"""A folder of numbers, opened as it is needed."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from models.parity.fixtures import Fixtures

CPU = torch.device("cpu")


def test_files_are_read_by_their_names(tmp_path: Path) -> None:
    fixtures = Fixtures(tmp_path, CPU, torch.float32)
    (tmp_path / "case.json").write_text('{"text": "图"}', encoding="utf-8")
    save_file({"a": torch.arange(3), "b": torch.ones(2, 2)}, tmp_path / "case.safetensors")
    assert fixtures.json("case.json") == {"text": "图"}
    tensors = fixtures.tensors("case.safetensors")
    assert tensors["a"].tolist() == [0, 1, 2] and tensors["b"].shape == (2, 2)
    assert fixtures.path("images/image0.png") == tmp_path / "images" / "image0.png"
    assert fixtures.has("case.json") and not fixtures.has("other.json")


def test_nothing_is_opened_before_it_is_needed(tmp_path: Path) -> None:
    fixtures = Fixtures(tmp_path / "nowhere", CPU, torch.float32)
    assert not fixtures.has("chat_config.json")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        fixtures.json("case.json")


@pytest.mark.parametrize("kind", ["chat", "paint"])
def test_a_configuration_is_read_once(tmp_path: Path, kind: str) -> None:
    fixtures = Fixtures(tmp_path, CPU, torch.float32)
    file = tmp_path / f"{kind}_config.json"
    file.write_text(json.dumps({"kind": kind}))
    first = getattr(fixtures, f"{kind}_config")
    file.unlink()
    assert first == {"kind": kind} and getattr(fixtures, f"{kind}_config") is first


@pytest.mark.parametrize(
    ("dtype", "expected"), [(torch.float32, True), (torch.float16, False), (torch.bfloat16, False)]
)
def test_full_precision_is_float32(dtype: torch.dtype, expected: bool) -> None:
    assert Fixtures(Path(), CPU, dtype).is_full_precision is expected
