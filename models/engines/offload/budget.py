"""A budget of device memory, turned into how this checkpoint is loaded: a plan, told in the log."""

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

import msgspec
import torch

from models.checkpoints.companion_files import CONFIG_FILE, find_vae, read_config
from models.checkpoints.loading import Checkpoint, open_checkpoint
from models.engines.memory_plan import CONTEXT_BYTES, Choices, MemoryPlan, ModelSizes, make_plan
from models.jobs import EngineConfig, Model, Offload, Quantization
from models.networks.paint.config import PaintConfig

logger = logging.getLogger(__name__)

_TENSOR_FILES = (".safetensors", ".bin", ".pt", ".pth")
# How many tensors of their widest place there are at once, in the UNet and the VAE of Stable Diffusion 2.1: 68 MB a row
# in half precision, 805 MB a picture of 512 px in float32.
UNET_ROW_TENSORS = 26
DECODER_TENSORS = 6


def within_budget(config: EngineConfig) -> EngineConfig:
    """The configuration that `vram_budget_bytes` leads to; itself without a budget. What somebody set stays as it is.

    On a GPU, torch allocates no more than the budget from here on.

    Raises:
        BudgetTooSmall: nothing that is allowed fits.
        CheckpointError: anything wrong with the files.
    """
    if not config.vram_budget_bytes:
        return config
    kind: Model = "chat" if config.kind == "chat" else "paint"
    plan = make_plan(model_sizes(config), config.vram_budget_bytes, choices(config))
    logger.info("VISCPM_VRAM_BUDGET: %s", plan)
    if config.device.startswith("cuda"):
        _limit(torch.device(config.device), config.vram_budget_bytes)
    return applied(config, plan, kind)


def applied(config: EngineConfig, plan: MemoryPlan, kind: Model) -> EngineConfig:
    """The configuration as planned."""
    return msgspec.structs.replace(
        config,
        dtype=plan.dtype,
        quantization=plan.quantization,
        offload=plan.offload,
        offload_bytes=plan.offload_bytes,
        kv_bytes=plan.kv_bytes if kind == "chat" else config.kv_bytes,
    )


def choices(config: EngineConfig) -> Choices:
    """What the plan may choose: of what nobody set, best first."""
    is_cuda = config.device.startswith("cuda")
    dtypes = [config.dtype]
    if "dtype" in config.planned and not is_cuda:
        dtypes.append("bfloat16")
    quantizations: list[Quantization] = [config.quantization]
    offloads: list[Offload] = [config.offload]
    # A text is read once a picture: streamed layers cost little there, and keep the precision
    if "quantization" in config.planned and config.kind == "chat" and config.offload == "off":
        quantizations = list(get_args(Quantization))
    if "offload" in config.planned and config.offload == "off" and config.quantization == "off":
        offloads = ["off", "streamed"]
    return Choices(
        dtypes=dtypes,
        quantizations=quantizations,
        offloads=offloads,
        layer_bytes=config.offload_bytes,
        kv_bytes=config.kv_bytes,
        max_jobs=config.max_jobs,
        is_cuda=is_cuda,
    )


def model_sizes(config: EngineConfig) -> ModelSizes:
    """Read off the checkpoint's shapes; no weight is read."""
    kind: Model = "chat" if config.kind == "chat" else "paint"
    checkpoint = open_checkpoint(Path(config.checkpoint), kind)
    values = {
        ours: math.prod(checkpoint.quantized[name].shape)
        if name in checkpoint.quantized
        else checkpoint.tensors[name].numel()
        for name, ours in checkpoint.parameters.items()
    }
    llm, sizes = checkpoint.config.llm, _num_values(values)
    painting = _painting(config, checkpoint) if kind == "paint" else {}
    return ModelSizes(
        kind=kind,
        num_layers=llm.num_layers,
        num_heads=llm.num_heads,
        dim_head=llm.dim_head,
        dim_model=llm.dim_model,
        dim_ff=llm.dim_ff,
        vocab_size=llm.vocab_size,
        **sizes,
        **painting,
    )


def _num_values(values: Mapping[str, int]) -> dict[str, int]:
    llm = sum(count for name, count in values.items() if name.startswith("llm."))
    layers = sum(count for name, count in values.items() if name.startswith("llm.layers."))
    first = sum(count for name, count in values.items() if name.startswith("llm.layers.0."))
    return {"layer_values": first, "embedding_values": llm - layers, "rest_values": sum(values.values()) - llm}


def _painting(config: EngineConfig, checkpoint: Checkpoint) -> dict[str, int]:
    """What pictures take at the size that the UNet was trained for."""
    assert isinstance(checkpoint.config, PaintConfig)
    unet = checkpoint.config.unet
    folder = find_vae(checkpoint.folder, Path(config.vae) if config.vae else None)
    channels: list[int] = read_config(folder / CONFIG_FILE)["block_out_channels"]
    folders = [folder, *map(Path, config.rerankers.values())]
    side_px = int(unet["sample_size"]) << (len(channels) - 1)
    return {
        "fixed_bytes": sum(_weights_bytes(each) for each in folders),
        "row_values": UNET_ROW_TENSORS * unet["block_out_channels"][0] * int(unet["sample_size"]) ** 2,
        "decode_bytes": DECODER_TENSORS * channels[0] * side_px**2 * 4,
    }


def _weights_bytes(folder: Path) -> int:
    """Of the first kind of weights in it: some folders hold the same in two formats."""
    for suffix in _TENSOR_FILES:
        if sizes := [file.stat().st_size for file in folder.glob(f"*{suffix}")]:
            return sum(sizes)
    return 0


def _limit(device: torch.device, budget_bytes: int) -> None:
    """Beyond it torch is out of memory, which engines survive; CUDA's own share is outside of torch's."""
    total_bytes = torch.cuda.get_device_properties(device).total_memory
    share = max(budget_bytes - CONTEXT_BYTES, 0) / total_bytes
    torch.cuda.set_per_process_memory_fraction(min(share, 1.0), device)
