"""Networks without weights, and the weights put into them."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor, nn

from models.checkpoints.quantization.rounding import quantize
from models.checkpoints.quantization.stored import StoredWeight, is_quantizable
from models.checkpoints.tensor_files import Fingerprint, MappedTensors
from models.jobs import Quantization
from models.networks.chat.config import ChatConfig
from models.networks.chat.model import ChatModel
from models.networks.paint.config import PaintConfig
from models.networks.vision.encoder import resize_positions

LANGUAGE_MODEL = "llm."
EMBEDDING = "llm.embedding.weight"
IMAGE_POSITIONS = "vision_encoder.image_positions"  # the one table that fits pictures of one side alone


Share = Callable[[str, tuple[int, ...]], tuple[slice, ...] | None]  # name and shape -> part; None: nothing of it


def whole(name: str, shape: tuple[int, ...]) -> tuple[slice, ...]:
    return ()


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
    quantization: Quantization = "off",
    quantized: Mapping[str, StoredWeight] = MappingProxyType({}),
    is_to_change: bool = False,
    share: Share = whole,
) -> str:
    """Give a skeleton its weights, which are then forgotten in `tensors`, and return the fingerprint of all of them.

    What neither moves nor changes its dtype stays mapped; of the rest no more than a piece is held twice, and a weight
    that is to be quantized is never there as a whole.

    Args:
        parameters: name in `tensors`, or of a quantized weight -> name in the model; what is not in it only counts for
            the fingerprint.
        dtypes: name in the model -> dtype wanted, or None for the stored one.
        quantization: of the language model's linear layers that are stored in a float dtype.
        quantized: what is stored of each quantized weight.
        is_to_change: the language model's weights will be written to, or replaced. They get memory of their own: a
            mapped file's changed pages stay as long as anything of the file is used. On a processor the embedding of a
            quantized model is laid out by columns, which projects twice as fast, so that it needs no packed copy.
        share: what this process keeps of each weight that is not quantized.
    """
    digest = Fingerprint()
    is_lean = quantization != "off" or bool(quantized)
    part_of = {name: weight for weight, stored in quantized.items() for name in stored.names}
    parts: dict[str, Tensor] = {}
    for name in sorted(tensors):
        stored = tensors[name]
        digest.add(name, stored)
        ours = parameters.get(name)
        wanted = None if ours is None else share(ours, tuple(stored.shape))
        if name in part_of:
            weight = part_of[name]
            parts[name] = tensors.moved(name, device, stored.dtype)
            if all(part in parts for part in quantized[weight].names):
                layer = quantized[weight].layer(*(parts.pop(part) for part in quantized[weight].names))
                set_layer(model, parameters[weight], layer)
        elif ours is not None and quantization != "off" and is_quantizable(ours):
            set_layer(model, ours, quantize(stored, quantization, device, tensors.release))
        elif ours is not None and wanted is not None:
            dtype = dtypes(ours) or stored.dtype
            if ours == IMAGE_POSITIONS and stored.shape != model.get_parameter(ours).shape:
                resized = resize_positions(stored, model.get_parameter(ours).shape[0])
                set_parameter(model, ours, resized.to(device=device, dtype=dtype))
            elif ours == EMBEDDING and is_to_change and is_lean and device.type == "cpu":
                set_parameter(model, ours, tensors.moved_transposed(name, dtype))
            else:
                is_copied = is_to_change and ours.startswith(LANGUAGE_MODEL)
                set_parameter(model, ours, tensors.moved(name, device, dtype, is_copied, wanted))
        tensors.release(stored)
    tensors.clear()
    model.eval()
    return digest.hexdigest()


def set_layer(model: nn.Module, weight_name: str, layer: nn.Module) -> None:
    """Put a layer in the place of the one whose weight has this name."""
    module_name, _, leaf = weight_name.removesuffix(".weight").rpartition(".")
    setattr(model.get_submodule(module_name), leaf, layer)


def set_parameter(model: nn.Module, name: str, value: Tensor) -> None:
    """Replace one parameter, on the meta device or not, by `value` itself; it gets no gradient."""
    module_name, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(module_name), leaf, nn.Parameter(value, requires_grad=False))
