"""The folder's checkpoints through the loader: both file formats, conversion, and refusal of the wrong kind."""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.checkpoints.conversion import convert
from models.checkpoints.loading import Checkpoint, open_checkpoint
from models.checkpoints.published_names import Kind
from models.checkpoints.tensor_files import CheckpointError, fingerprint
from models.checkpoints.weights import skeleton
from models.parity.fixtures import Fixtures
from models.parity.report import Report


def check_chat(fixtures: Fixtures, report: Report) -> None:
    """A Chat file is float16 throughout (SPEC §1.1)."""
    checkpoint = _check(fixtures, report, "chat")
    report.exact("chat_checkpoint.pt dtypes", _dtypes(checkpoint.tensors), {torch.float16})


def check_paint(fixtures: Fixtures, report: Report) -> None:
    """A Paint file holds the language model in float16, the rest in float32 (SPEC §1.1)."""
    checkpoint = _check(fixtures, report, "paint")
    llm = {name: tensor for name, tensor in checkpoint.tensors.items() if name.startswith("llm.")}
    rest = {name: tensor for name, tensor in checkpoint.tensors.items() if name not in llm}
    report.exact("paint_checkpoint.pt dtypes of the language model", _dtypes(llm), {torch.float16})
    report.exact("paint_checkpoint.pt dtypes of the rest", _dtypes(rest), {torch.float32})


def _check(fixtures: Fixtures, report: Report, kind: Kind) -> Checkpoint:
    file = fixtures.path(f"{kind}_checkpoint.pt")
    config = fixtures.path(f"{kind}_config.json")
    checkpoint = open_checkpoint(file, kind, config)
    parameters = set(checkpoint.parameters.values())
    report.exact(
        f"{file.name} keys fit {config.name}", parameters ^ skeleton(checkpoint.config).state_dict().keys(), set()
    )
    if fixtures.has(f"{kind}_checkpoint.safetensors"):
        other = open_checkpoint(fixtures.path(f"{kind}_checkpoint.safetensors"), kind, config)
        differing = _differing(checkpoint.tensors, other.tensors)
        report.exact(f"{file.name} differs from .safetensors in", differing, [])
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / kind
        digest = convert(file, folder, config=config)
        converted = open_checkpoint(folder, kind)
        report.exact(f"{file.name} converted differs in", _differing(checkpoint.tensors, converted.tensors), [])
        report.exact(f"{file.name} converted sizes", converted.config, checkpoint.config)
        report.exact(f"{file.name} fingerprint kept", digest, fingerprint(checkpoint.tensors))
    other_kind: Kind = "chat" if kind == "paint" else "paint"
    report.exact(f"{file.name} refused as {other_kind}", _is_refused(file, other_kind), True)
    return checkpoint


def _differing(tensors: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> list[str]:
    """Names that only one side has, or whose values differ; the dtype may."""
    both = tensors.keys() & others.keys()
    return sorted(
        (tensors.keys() ^ others.keys())
        | {name for name in both if not torch.equal(tensors[name].float(), others[name].float())}
    )


def _dtypes(tensors: Mapping[str, Tensor]) -> set[torch.dtype]:
    return {tensor.dtype for tensor in tensors.values()}


def _is_refused(file: Path, kind: Kind) -> bool:
    try:
        open_checkpoint(file, kind)
    except CheckpointError:
        return True
    return False


CHECKS: dict[str, Callable[[Fixtures, Report], Any]] = {
    "chat_checkpoint.pt": check_chat,
    "paint_checkpoint.pt": check_paint,
}
COVERS: dict[str, tuple[str, ...]] = {
    "chat_checkpoint.pt": ("chat_checkpoint.pt", "chat_checkpoint.safetensors", "chat_config.json", "vocab.txt"),
    "paint_checkpoint.pt": (
        "paint_checkpoint.pt",
        "paint_checkpoint.safetensors",
        "paint_config.json",
        "vocab.txt",
        "unet/config.json",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
        "scheduler/scheduler_config.json",
    ),
}
