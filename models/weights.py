"""Networks without weights, and the one place where a parameter is put into them."""

import torch
from torch import Tensor, nn

from models.chat.config import ChatConfig
from models.chat.model import ChatModel
from models.paint.config import PaintConfig


def skeleton(config: ChatConfig | PaintConfig) -> nn.Module:
    """A ChatModel or PaintModel on the meta device: shapes, no memory. Raises ValueError on sizes that cannot be."""
    with torch.device("meta"):
        if isinstance(config, ChatConfig):
            return ChatModel(config)
        from models.paint.model import PaintModel  # brings diffusers, which takes seconds and Chat never needs

        return PaintModel(config)


def set_parameter(model: nn.Module, name: str, value: Tensor) -> None:
    """Replace one parameter, on the meta device or not, by `value` itself; it gets no gradient."""
    module_name, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(module_name), leaf, nn.Parameter(value, requires_grad=False))
