"""Networks without weights, and the weights put into them."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from models.checkpoints.tensor_files import Fingerprint, MappedTensors
from models.networks.chat.config import ChatConfig
from models.networks.chat.model import ChatModel
from models.networks.paint.config import PaintConfig
from models.networks.vision.encoder import resize_positions

IMAGE_POSITIONS = "vision_encoder.image_positions"  # the one table that fits pictures of one side alone


def skeleton(config: ChatConfig | PaintConfig) -> nn.Module:
    """A ChatModel or PaintModel on the meta device: shapes, no memory. Raises ValueError on sizes that cannot be."""
    with torch.device("meta"):
        if isinstance(config, ChatConfig):
            return ChatModel(config)
        from models.networks.paint.model import PaintModel  # brings diffusers, which takes seconds and Chat never needs

        return PaintModel(config)


def fill(
    model: nn.Module,
    tensors: MappedTensors,
    parameters: Mapping[str, str],
    device: torch.device,
    dtypes: Callable[[str], torch.dtype | None],
) -> str:
    """Give a skeleton its weights, which are then forgotten in `tensors`, and return the fingerprint of all of them.

    What neither moves nor changes its dtype stays mapped; of the rest no more than a piece is held twice.

    Args:
        parameters: name in `tensors` -> name in the model; what is not in it only counts for the fingerprint.
        dtypes: name in the model -> dtype wanted, or None for the stored one.
    """
    digest = Fingerprint()
    for name in sorted(tensors):
        stored = tensors[name]
        digest.add(name, stored)
        ours = parameters.get(name)
        if ours is not None:
            dtype = dtypes(ours) or stored.dtype
            if ours == IMAGE_POSITIONS and stored.shape != model.get_parameter(ours).shape:
                resized = resize_positions(stored, model.get_parameter(ours).shape[0])
                set_parameter(model, ours, resized.to(device=device, dtype=dtype))
            else:
                set_parameter(model, ours, tensors.moved(name, device, dtype))
        tensors.release(stored)
    tensors.clear()
    model.eval()
    return digest.hexdigest()


def set_parameter(model: nn.Module, name: str, value: Tensor) -> None:
    """Replace one parameter, on the meta device or not, by `value` itself; it gets no gradient."""
    module_name, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(module_name), leaf, nn.Parameter(value, requires_grad=False))
