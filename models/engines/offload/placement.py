"""The language model's layers put where the settings want them, and everything else onto the device."""

import logging

import torch
from torch import nn

from models.engines.offload.bminf_adapter import BMInfLayers
from models.engines.offload.streamed_layers import StreamedLayers
from models.engines.offload.transient_layers import TransientLayers
from models.engines.packed_linear import pack_language_model, pack_linears
from models.jobs import EngineConfig
from models.networks.cpm_bee.model import CPMBee
from models.networks.cpm_bee.quantized_linear import num_weights

logger = logging.getLogger(__name__)


def offload(model: nn.Module, llm: CPMBee, device: torch.device, dtype: torch.dtype, config: EngineConfig) -> None:
    """In place: `llm`, which is a part of the model, keeps its layers off the device, and the rest moves there.

    Args:
        model: loaded on the CPU in the dtype that it is stored in, so that its weights are still in their file; with
            the published, unfolded weights, since folding would write to them.

    Raises:
        OffloadUnusable: BMInf cannot run here.
        ValueError: less memory for layers than two of them take; streamed layers that are or shall be quantized.
    """
    if config.offload == "streamed" and config.quantization != "off":
        raise ValueError(
            f"VISCPM_OFFLOAD=streamed copies layers as the checkpoint has them, and {config.quantization} ones stay on "
            "the device: set one of VISCPM_OFFLOAD and VISCPM_*_QUANTIZATION to off"
        )
    if num_weights(model) != sum(parameter.numel() for parameter in model.parameters()):
        raise ValueError(f"VISCPM_OFFLOAD={config.offload} takes a checkpoint that is not quantized")
    layers = llm.layers
    llm.layers = nn.ModuleList()
    model.to(device=device, dtype=dtype)
    if config.offload == "bminf":
        passing: nn.Module = BMInfLayers(layers, device, dtype, config.offload_bytes, config.quantization)
    else:
        passing = StreamedLayers(layers, device, dtype, config.offload_bytes)
        logger.info(
            "%d layers of %.0f MB: %d stay on %s, the others pass through two buffers",
            len(passing),
            passing.layer_bytes / 1e6,
            passing.num_resident,
            device,
        )
    llm.layers = passing  # type: ignore[assignment]


def pack_resident(model: nn.Module, llm: CPMBee, projects: bool = True) -> None:
    """Packs what stays on a CPU, as `pack_language_model` and `pack_linears` do: all of a model that is whole there.

    Args:
        projects: whether the language model is asked for logits.
    """
    layers = llm.layers
    if isinstance(layers, TransientLayers):
        llm.layers = nn.ModuleList()
    pack_language_model(llm, projects)
    pack_linears(model)
    llm.layers = layers
