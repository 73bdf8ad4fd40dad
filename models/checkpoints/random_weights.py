"""Models with random weights of sensible scale: for speed at full size, and for tests.

CPM-Bee divides by sqrt(dim_in) in its layers, so its weights have unit variance; elsewhere the variance is 1 / dim_in.
"""

from typing import TYPE_CHECKING, cast

import torch
from torch import nn

from models.checkpoints.weights import skeleton
from models.networks.chat.config import ChatConfig
from models.networks.cpm_bee.layers import RMSNorm
from models.networks.cpm_bee.model import CPMBee
from models.networks.paint.config import PaintConfig

if TYPE_CHECKING:
    from models.networks.chat.model import ChatModel
    from models.networks.paint.model import PaintModel

_NORMS = (nn.LayerNorm, nn.GroupNorm, RMSNorm)


def random_chat(config: ChatConfig, device: torch.device | str, dtype: torch.dtype, seed: int) -> "ChatModel":
    """A Chat model made on the device itself, in eval mode and without gradients."""
    return cast("ChatModel", _random_model(skeleton(config).to(dtype), torch.device(device), seed))


def random_paint(
    config: PaintConfig,
    device: torch.device | str,
    dtype: torch.dtype,
    seed: int,
    unet_dtype: torch.dtype | None = None,
) -> "PaintModel":
    """A Paint model, as `random_chat`; `unet_dtype` is that of prompt adapter and UNet, else `dtype`."""
    model = cast("PaintModel", skeleton(config).to(unet_dtype or dtype))
    model.llm.to(dtype)
    _random_model(model, torch.device(device), seed)
    return model


def _random_model(model: nn.Module, device: torch.device, seed: int) -> nn.Module:
    model.to_empty(device=device).requires_grad_(False).eval()
    draw_weights(model, seed)
    return model


def draw_weights(model: nn.Module, seed: int) -> None:
    """Give every parameter of an allocated module a random value of sensible scale."""
    device = next(model.parameters()).device
    generator = torch.Generator(device).manual_seed(seed)
    in_llm = {id(part) for module in model.modules() if isinstance(module, CPMBee) for part in module.modules()}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            values = parameter.data
            if name == "bias":
                values.normal_(0, 0.02, generator=generator)
            elif isinstance(module, _NORMS):
                values.normal_(1, 0.02, generator=generator)
            elif isinstance(module, nn.Linear | nn.Conv2d) and id(module) not in in_llm:
                values.normal_(0, values[0].numel() ** -0.5, generator=generator)
            else:
                values.normal_(0, 1, generator=generator)
