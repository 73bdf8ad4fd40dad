"""What an engine is built from, read off the settings."""

import logging
from typing import Any

from models.jobs import DeviceTurns, EngineConfig, Kind, Model
from service.core.settings import Dtype, Settings

_log = logging.getLogger(__name__)


def engine_config(kind: Kind, settings: Settings) -> EngineConfig:
    """What the engine of this kind is built from."""
    if kind == "chat":
        device = settings.chat_devices[0] if settings.chat_devices else settings.chat_device
        return EngineConfig(
            kind=kind,
            checkpoint=_checkpoint(kind, settings.chat_checkpoint, settings.chat_engine),
            vocabulary=settings.chat_vocab,
            device=device,
            devices=settings.chat_devices if len(settings.chat_devices) > 1 else (),
            dtype=_dtype(settings.chat_dtype, device),
            quantization=settings.chat_quantization,
            max_jobs=settings.chat_max_jobs,
            kv_bytes=settings.chat_kv_bytes,
            memory_utilization=settings.chat_memory_utilization,
            fold_traditional=settings.fold_traditional,
            turns=_turns(settings),
            **_memory(kind, settings),
        )
    if kind == "safety":
        return EngineConfig(
            kind=kind,
            checkpoint=settings.safety_image_checker,
            prompt_checker=settings.safety_prompt_checker,
            prompt_checker_label=settings.safety_prompt_checker_label,
            image_classifier=settings.safety_image_classifier,
            device=settings.safety_device,
            guard=settings.safety_guard,
            guard_adapter=settings.safety_guard_adapter,
            guard_device=settings.safety_guard_device or settings.safety_device,
            guard_dtype=_guard_dtype(settings),
            guard_batch_tokens=settings.safety_guard_batch_tokens,
            max_jobs=settings.safety_max_jobs,
        )
    rerankers = {"zh": settings.paint_reranker, "en": settings.paint_reranker_english}
    return EngineConfig(
        kind=kind,
        checkpoint=_checkpoint(kind, settings.paint_checkpoint, settings.paint_engine),
        vocabulary=settings.paint_vocab,
        device=settings.paint_device,
        dtype=_dtype(settings.paint_dtype, settings.paint_device),
        quantization=settings.paint_quantization,
        vae=settings.paint_vae,
        rerankers={language: folder for language, folder in rerankers.items() if folder},
        steps_offset=settings.paint_steps_offset,
        max_jobs=settings.paint_max_jobs,
        fold_traditional=settings.fold_traditional,
        full_every=1 if settings.paint_step_cache == "off" else int(settings.paint_step_cache),
        turns=_turns(settings),
        **_memory(kind, settings),
    )


def _turns(settings: Settings) -> DeviceTurns | None:
    if settings.device_sharing == "off":
        return None
    return DeviceTurns(
        lock_dir=settings.device_lock_dir,
        turn_s=settings.device_turn_s,
        idle_unload_s=settings.idle_unload_s,
        device_bytes=settings.device_bytes,
    )


def _memory(kind: Model, settings: Settings) -> dict[str, Any]:
    """Where the language model's layers are, the budget, and what a plan for it may choose: what nobody set."""
    given = settings.model_fields_set
    is_open = {
        "dtype": getattr(settings, f"{kind}_dtype") == "auto",
        "quantization": f"{kind}_quantization" not in given,
        "offload": "offload" not in given,
    }
    limit_bytes = settings.cpmbee_max_bytes
    return {
        "offload": "streamed" if limit_bytes and settings.offload == "off" else settings.offload,
        "offload_bytes": limit_bytes,
        "vram_budget_bytes": settings.vram_budget,
        "planned": [name for name, may_change in is_open.items() if may_change],
    }


def _checkpoint(kind: Model, configured: str, engine: str) -> str:
    """Without a checkpoint our own engine takes the bundled one; another engine may need none."""
    if configured or engine != Settings.model_fields[f"{kind}_engine"].default:
        return configured
    from models.checkpoints.bundled import bundled_checkpoint  # not where the screens run without models

    _log.info("%s: the bundled checkpoint; VISCPM_%s_CHECKPOINT names another one", kind, kind.upper())
    return str(bundled_checkpoint(kind))


def _guard_dtype(settings: Settings) -> str:
    """`auto`: on a GPU as guards are published, whose values go beyond half precision's."""
    if settings.safety_guard_dtype != "auto":
        return settings.safety_guard_dtype
    device = settings.safety_guard_device or settings.safety_device
    return "bfloat16" if device.startswith("cuda") else "float32"


def _dtype(configured: Dtype, device: str) -> str:
    """`auto`: as published on a GPU, and what processors compute well elsewhere."""
    if configured != "auto":
        return configured
    return "float16" if device.startswith("cuda") else "float32"
