"""A folder of reference numbers, opened as it is needed."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor


@dataclass
class Fixtures:
    """One parity folder on one device in one dtype.

    Sizes, special-token ids, texts and seeds all come from the folder; nothing here is tuned to one set.
    """

    folder: Path
    device: torch.device
    dtype: torch.dtype

    def path(self, name: str) -> Path:
        return self.folder / name

    def json(self, name: str) -> Any:
        return json.loads(self.path(name).read_text(encoding="utf-8"))

    def tensors(self, name: str) -> dict[str, Tensor]:
        return load_file(self.path(name))

    def has(self, name: str) -> bool:
        return self.path(name).exists()

    @cached_property
    def chat_config(self) -> dict[str, Any]:
        return self.json("chat_config.json")

    @cached_property
    def paint_config(self) -> dict[str, Any]:
        return self.json("paint_config.json")

    @property
    def is_full_precision(self) -> bool:
        return self.dtype == torch.float32
