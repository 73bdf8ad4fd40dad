"""What of a configured model is there and would fit its device: for `viscpm doctor`, which loads no weights.

Trouble is told part by part, in the order in which a worker would meet it.
"""

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import torch

from models.checkpoints.companion_files import find_vae
from models.checkpoints.loading import Checkpoint, open_checkpoint
from models.checkpoints.tensor_files import CheckpointError, fingerprint
from models.engines.device import DeviceUnusable, usable_device
from models.engines.memory_plan import BudgetTooSmall, MemoryPlan, make_plan
from models.engines.offload.budget import choices, model_sizes
from models.jobs import EngineConfig

Found = TypeVar("Found")

_NO_WEIGHTS = ("activations", "keys and values", "margin")  # beginnings of a plan's other terms


@dataclass
class Survey:
    """Of one model.

    Args:
        weights_bytes: on the device, as the settings have it loaded.
        plan: the arithmetic of what fits, in words; empty where nothing does.
        proposal: what would fit by VISCPM_VRAM_BUDGET, where the settings as they are do not.
        trouble: part ("checkpoint", "kind", "vocabulary", "vae", "device", "memory") and what is wrong with it.
    """

    file: str = ""
    kind: str = ""
    untrained: bool = False
    stored_bytes: int = 0
    fingerprint: str = ""
    device_bytes: int = 0
    weights_bytes: int = 0
    plan: str = ""
    proposal: str = ""
    trouble: list[tuple[str, str]] = field(default_factory=list)


def survey(config: EngineConfig) -> dict[str, Any]:
    """The fields of a Survey. It raises nothing about files and devices: that is what it tells."""
    found = Survey()
    checkpoint = _checkpoint(config, found)
    device = _attempt(found, "device", lambda: usable_device(config.device))
    if checkpoint is None or found.trouble:
        return asdict(found)
    if device is not None:
        found.device_bytes = _device_bytes(device) * max(len(config.devices), 1)
        config = msgspec.structs.replace(config, quantization=_quantization(config, checkpoint))
        _fit(config, found)
    return asdict(found)


def _checkpoint(config: EngineConfig, found: Survey) -> Checkpoint | None:
    path = Path(config.checkpoint)
    checkpoint = _attempt(found, "checkpoint", lambda: open_checkpoint(path))
    if checkpoint is None:
        return None
    found.file, found.kind, found.untrained = str(checkpoint.file), checkpoint.kind, checkpoint.untrained
    found.stored_bytes = sum(tensor.nbytes for tensor in checkpoint.tensors.values())
    found.fingerprint = fingerprint(checkpoint.tensors)
    if checkpoint.kind != config.kind:
        wanted, is_there = config.kind.capitalize(), checkpoint.kind.capitalize()
        found.trouble.append(("kind", f"{checkpoint.file}: a {is_there} checkpoint, but a {wanted} one is wanted"))
        return checkpoint
    vocabulary = Path(config.vocabulary) if config.vocabulary else None
    _attempt(found, "vocabulary", lambda: checkpoint.tokenizer(vocabulary))
    if config.kind == "paint":
        _attempt(found, "vae", lambda: find_vae(checkpoint.folder, Path(config.vae) if config.vae else None))
    return checkpoint


def _attempt(found: Survey, part: str, look: Callable[[], Found]) -> Found | None:
    try:
        return look()
    except (CheckpointError, DeviceUnusable, OSError) as error:
        found.trouble.append((part, str(error)))
        return None


def _fit(config: EngineConfig, found: Survey) -> None:
    """What a budget says, or the whole device without one."""
    sizes = model_sizes(config)
    as_set = choices(config if config.vram_budget_bytes else msgspec.structs.replace(config, planned=[]))
    try:
        plan = make_plan(sizes, config.vram_budget_bytes or found.device_bytes, as_set)
    except BudgetTooSmall as error:
        found.trouble.append(("memory", str(error).removeprefix("VISCPM_VRAM_BUDGET: ")))
        found.proposal = _proposal(config, found.device_bytes)
        return
    found.plan = str(plan)
    found.weights_bytes = _weights_bytes(plan)


def _proposal(config: EngineConfig, device_bytes: int) -> str:
    try:
        plan = make_plan(model_sizes(config), device_bytes, choices(config))
    except BudgetTooSmall:
        return ""
    return f"VISCPM_VRAM_BUDGET={device_bytes} loads it as {plan.way}"


def _weights_bytes(plan: MemoryPlan) -> int:
    return sum(size for name, size in plan.terms.items() if not name.startswith(_NO_WEIGHTS))


def _quantization(config: EngineConfig, checkpoint: Checkpoint) -> Any:
    return checkpoint.quantization if checkpoint.quantization != "off" else config.quantization


def _device_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
