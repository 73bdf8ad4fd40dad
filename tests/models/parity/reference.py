"""The repository's reference numbers, and copies of them in which one is off."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.parity.fixtures import Fixtures
from models.parity.report import Report

REFERENCE = Path(__file__).parents[2] / "parity"
Checks = dict[str, Callable[[Fixtures, Report], None]]


class Recorded(Report):
    """Keeps the names of what failed, of what passed, and of what was only noted."""

    def __init__(self) -> None:
        super().__init__()
        self.failed: list[str] = []
        self.passed: list[str] = []
        self.noted: list[str] = []

    def line(self, name: str, value: str, limit: str, passed: bool) -> None:
        (self.passed if passed else self.failed).append(name)
        super().line(name, value, limit, passed)

    def note(self, name: str, text: str) -> None:
        self.noted.append(name)
        super().note(name, text)


def copy_reference(folder: Path) -> Path:
    """A folder of links to the numbers; a file that is changed becomes one of its own."""
    return Path(shutil.copytree(REFERENCE, folder, copy_function=os.symlink))


def run_checks(checks: Checks, folder: Path, *names: str, dtype: torch.dtype = torch.float32) -> Recorded:
    """Some of a part's checks, by their leading files; without names all."""
    report = Recorded()
    for name in names or checks:
        checks[name](Fixtures(folder, torch.device("cpu"), dtype), report)
    return report


def change_json(file: Path, change: Callable[[Any], object]) -> None:
    """Rewrites a file with what `change` does to its content in place."""
    content = json.loads(file.read_text(encoding="utf-8"))
    change(content)
    file.unlink()
    file.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def change_tensor(file: Path, name: str, amount: float = 0.1) -> None:
    """Adds to the last value of one tensor of a file."""
    tensors: dict[str, Tensor] = {key: tensor.clone() for key, tensor in load_file(file).items()}
    tensors[name].view(-1)[-1] += amount
    file.unlink()
    save_file(tensors, file)
