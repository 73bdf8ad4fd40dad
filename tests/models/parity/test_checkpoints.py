"""The parity check of checkpoints: passes on equal files, fails on what differs."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from models.checkpoints.conversion import write_json
from models.networks.chat.config import ChatConfig
from models.networks.paint.config import PaintConfig
from models.parity import checkpoints
from models.parity.fixtures import Fixtures
from models.parity.report import Report

Tensors = dict[str, Tensor]


@pytest.fixture
def folder(
    chat_tensors: Tensors,
    chat_config: ChatConfig,
    paint_file: Path,
    paint_tensors: Tensors,
    paint_config: PaintConfig,
) -> Path:
    """Both checkpoints in both formats, laid out as the reference's folder."""
    result = paint_file.parent
    paint_file.rename(result / "paint_checkpoint.pt")
    torch.save(chat_tensors, result / "chat_checkpoint.pt")
    for kind, tensors in (("chat", chat_tensors), ("paint", paint_tensors)):
        widened = {name: tensor.float() for name, tensor in tensors.items()}
        save_file(widened, result / f"{kind}_checkpoint.safetensors")
    write_json(result / "chat_config.json", chat_config.to_published())
    write_json(result / "paint_config.json", {"llm": paint_config.llm.to_published()})
    return result


def failed_lines(folder: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    report = Report()
    for check in checkpoints.CHECKS.values():
        check(Fixtures(folder, torch.device("cpu"), torch.float32), report)
    failed = [line[:72].rstrip() for line in capsys.readouterr().out.splitlines() if line.endswith("FAIL")]
    assert len(failed) == report.failures
    assert report.lines >= 13
    return failed


@pytest.mark.slow
def test_equal_files_pass(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert failed_lines(folder, capsys) == []


@pytest.mark.slow
def test_every_file_is_covered(folder: Path) -> None:
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    covered = {name.split("/")[0] for names in checkpoints.COVERS.values() for name in names}
    assert {file.split("/")[0] for file in files} <= covered


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda tensors: tensors["mapping.0.bias"].add_(1), "chat_checkpoint.pt differs from .safetensors in"),
        (lambda tensors: tensors.update(query=tensors["query"].float()), "chat_checkpoint.pt dtypes"),
    ],
)
def test_what_differs_fails(
    folder: Path,
    chat_tensors: Tensors,
    change: Callable[[Tensors], object],
    line: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    change(chat_tensors)
    torch.save(chat_tensors, folder / "chat_checkpoint.pt")
    assert failed_lines(folder, capsys) == [line]


@pytest.mark.slow
def test_without_the_second_format_the_first_is_still_checked(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in folder.glob("*.safetensors"):
        shutil.move(file, tmp_path)
    assert failed_lines(folder, capsys) == []
