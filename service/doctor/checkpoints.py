"""The models: is each one's checkpoint whole and of its kind, are its companions there, does it fit its device."""

import importlib
from collections import defaultdict
from typing import Any

from models.jobs import Model
from service.core.settings import Settings
from service.doctor.findings import Finding, note, ok, problem
from service.worker.engine_config import engine_config

_SURVEY = "models.engines.offload.survey"  # loaded by name: it takes torch
_GIB = 2**30


def check_checkpoints(settings: Settings) -> list[Finding]:
    """Of every model that this machine's workers would load."""
    findings: list[Finding] = []
    surveys: dict[Model, dict[str, Any]] = {}
    for kind in settings.models:
        if getattr(settings, f"{kind}_workers") == 0:
            findings.append(note(kind, f"no worker on this machine (VISCPM_{kind.upper()}_WORKERS=0)"))
        elif (engine := getattr(settings, f"{kind}_engine")) != Settings.model_fields[f"{kind}_engine"].default:
            findings.append(note(kind, f"{engine} is no engine of this service: it is not looked into"))
        else:
            try:
                surveys[kind] = importlib.import_module(_SURVEY).survey(engine_config(kind, settings))
            except ImportError as error:
                return [*findings, _no_torch(settings, error)]
            findings += _told(kind, surveys[kind], settings)
    return findings + _together(surveys, settings)


def _no_torch(settings: Settings, error: ImportError) -> Finding:
    told = f"the workers' packages are not installed ({error.name or error}): checkpoints and devices are not examined"
    if settings.redis_url:
        return note("models", told)  # workers may be on other machines
    return problem(
        "models",
        told,
        "VISCPM_REDIS_URL is not set, so `viscpm serve` would start workers here, which need torch and more",
        "pip install 'viscpm-service[serve]'",
    )


def _told(kind: Model, found: dict[str, Any], settings: Settings) -> list[Finding]:
    findings = []
    if found["fingerprint"]:
        untrained = ", untrained: random weights" if found["untrained"] else ""
        findings.append(
            ok(
                kind,
                f"{found['file']}: {found['kind'].capitalize()}, {_size(found['stored_bytes'])}, fingerprint "
                f"{found['fingerprint'][:16]}{untrained}",
            )
        )
    if found["plan"]:
        findings.append(ok(kind, f"fits {_device(kind, settings)}: {found['plan']}"))
    return findings + [_trouble(kind, part, message, found, settings) for part, message in found["trouble"]]


def _trouble(kind: Model, part: str, message: str, found: dict[str, Any], settings: Settings) -> Finding:
    ours, name = f"VISCPM_{kind.upper()}", kind.capitalize()
    fetch = f"viscpm checkpoint fetch {kind}-balance"
    device = _device(kind, settings)
    cause, fix = {
        "checkpoint": (
            f"what {ours}_CHECKPOINT names is not there, not whole or no checkpoint",
            f"`{fetch}` brings one and goes on with half a one; or correct {ours}_CHECKPOINT",
        ),
        "kind": (
            f"{ours}_CHECKPOINT names a checkpoint of the other model",
            f"have it name one of {name} (`viscpm checkpoint inspect PATH` tells which a file is)",
        ),
        "vocabulary": (
            "a checkpoint's file holds no vocabulary, and the one it was trained with is not beside it",
            f"`{fetch}` brings vocab.txt; put it beside the file or have {ours}_VOCAB name it",
        ),
        "vae": (
            "a Paint checkpoint holds no VAE, which makes pictures of what it paints",
            f"`{fetch}` or `viscpm checkpoint fetch sd21-base` brings one; put its folder beside the checkpoint as "
            "vae/ or have VISCPM_PAINT_VAE name it",
        ),
        "device": (
            f"{ours}_DEVICE={device} asks for a device that torch cannot compute on here",
            f"{ours}_DEVICE=cpu, or a driver and a torch build for the GPU (docs/operations/deployment.md, GPUs); in a "
            "container it has to be handed on (--gpus all)",
        ),
        "memory": (
            f"{name}'s weights and what it computes with take more memory than {device} has, or than the budget allows",
            found["proposal"] or "a larger device, or docs/models/low-memory.md",
        ),
    }[part]
    return problem(kind, message, cause, fix)


def _together(surveys: dict[Model, dict[str, Any]], settings: Settings) -> list[Finding]:
    """Whether models that share a device have room there at the same time."""
    on_device: dict[str, list[Model]] = defaultdict(list)
    for kind, found in surveys.items():
        if found["plan"] and settings.device_sharing == "off":
            on_device[_device(kind, settings)].append(kind)
    findings = []
    for device, kinds in on_device.items():
        weights_bytes = sum(surveys[kind]["weights_bytes"] * getattr(settings, f"{kind}_workers") for kind in kinds)
        device_bytes = surveys[kinds[0]]["device_bytes"]
        told = f"all weights on {device} are {_size(weights_bytes)} of {_size(device_bytes)}"
        if weights_bytes <= device_bytes:
            findings.append(ok("memory", told))
            continue
        findings.append(
            problem(
                "memory",
                told,
                f"{' and '.join(kinds)} fit there alone, not together",
                "VISCPM_DEVICE_SHARING=turns (docs/models/one-card.md), VISCPM_VRAM_BUDGET for less each "
                "(docs/models/low-memory.md), fewer workers, or another device for one",
            )
        )
    return findings


def _device(kind: Model, settings: Settings) -> str:
    if kind == "chat" and settings.chat_devices:
        return ",".join(settings.chat_devices)
    device: str = getattr(settings, f"{kind}_device")
    return device


def _size(num_bytes: int) -> str:
    return f"{num_bytes / _GIB:.2f} GiB" if num_bytes >= _GIB / 10 else f"{num_bytes / 2**20:.1f} MiB"
