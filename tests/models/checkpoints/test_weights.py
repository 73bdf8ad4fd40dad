"""Skeletons that take no memory, and the weights put into them."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from models.checkpoints.quantization.rounding import quantize
from models.checkpoints.random_weights import random_chat
from models.checkpoints.tensor_files import MappedTensors, fingerprint
from models.checkpoints.weights import IMAGE_POSITIONS, fill, set_parameter, skeleton
from models.networks.chat.config import ChatConfig
from models.networks.chat.model import ChatModel
from models.networks.cpm_bee.quantized_linear import Int8Linear
from models.networks.paint.config import PaintConfig
from models.networks.paint.model import PaintModel

CPU = torch.device("cpu")


def stored(config: ChatConfig) -> tuple[MappedTensors, dict[str, Tensor]]:
    """A model's weights under names of a file, and under the model's own."""
    ours = {
        name: value.half() for name, value in random_chat(config, "cpu", torch.float32, seed=1).state_dict().items()
    }
    tensors = MappedTensors()
    tensors.update({f"file.{name}": value.clone() for name, value in ours.items()})
    return tensors, ours


@pytest.mark.slow
def test_a_skeleton_has_all_shapes_and_no_memory(chat_config: ChatConfig, paint_config: PaintConfig) -> None:
    chat, paint = skeleton(chat_config), skeleton(paint_config)
    assert isinstance(chat, ChatModel) and isinstance(paint, PaintModel)
    assert all(parameter.is_meta for model in (chat, paint) for parameter in model.parameters())
    filled = random_chat(chat_config, "cpu", torch.float32, seed=1)
    shapes = {name: parameter.shape for name, parameter in chat.named_parameters()}
    assert shapes == {name: parameter.shape for name, parameter in filled.named_parameters()}


def test_sizes_that_cannot_be_are_refused(paint_config: PaintConfig) -> None:
    with pytest.raises(ValueError, match="block_out_channels"):
        skeleton(replace(paint_config, unet={**paint_config.unet, "block_out_channels": [8]}))


def test_weights_go_where_the_names_say_in_the_dtype_that_is_asked_for(chat_config: ChatConfig) -> None:
    tensors, ours = stored(chat_config)
    tensors["file.more"] = torch.ones(3)
    expected = fingerprint(dict(tensors))
    model = skeleton(chat_config)

    def dtype_of(name: str) -> torch.dtype | None:
        return torch.float32 if name.startswith("llm.") else None

    assert fill(model, tensors, {f"file.{name}": name for name in ours}, CPU, dtype_of) == expected
    for name, parameter in model.named_parameters():
        assert parameter.dtype == (torch.float32 if name.startswith("llm.") else torch.float16), name
        assert torch.equal(parameter, ours[name].to(parameter.dtype)) and not parameter.requires_grad
    assert not model.training
    assert not tensors, "the file's tensors are let go"


@pytest.mark.slow
def test_what_has_no_place_in_the_model_counts_for_the_fingerprint_alone(chat_config: ChatConfig) -> None:
    prints = []
    for extra in (None, torch.zeros(2), torch.ones(2)):
        tensors, ours = stored(chat_config)
        if extra is not None:
            tensors["unused"] = extra
        names = {f"file.{name}": name for name in ours}
        prints.append(fill(skeleton(chat_config), tensors, names, CPU, lambda name: None))
    assert len(set(prints)) == 3


def test_positions_alone_are_resized_for_pictures_of_another_side(chat_config: ChatConfig) -> None:
    tensors, ours = stored(chat_config)
    model = skeleton(chat_config.with_image_size(48))
    assert isinstance(model, ChatModel)
    fill(model, tensors, {f"file.{name}": name for name in ours}, CPU, lambda name: torch.float32)
    assert ours[IMAGE_POSITIONS].shape == (3 + 16, 64)
    assert model.vision_encoder.image_positions.shape == (3 + 36, 64)
    assert torch.equal(model.vision_encoder.image_positions[:3], ours[IMAGE_POSITIONS][:3].float())
    assert torch.equal(model.query_tokens, ours["query_tokens"].float())


def test_a_parameter_is_replaced_by_the_tensor_itself(chat_config: ChatConfig) -> None:
    model = skeleton(chat_config)
    value = torch.zeros(model.get_parameter("projector.0.bias").shape)
    set_parameter(model, "projector.0.bias", value)
    value += 2
    assert model.get_parameter("projector.0.bias").unique().tolist() == [2]
    with pytest.raises(AttributeError):
        set_parameter(model, "nowhere.bias", value)


def test_weights_that_will_change_leave_the_file(chat_config: ChatConfig) -> None:
    """Those of the language model; what nobody writes to stays where it is."""
    tensors, ours = stored(chat_config)
    names = {f"file.{name}": name for name in ours}
    addresses = {ours: tensors[name].data_ptr() for name, ours in names.items()}
    kept = dict(tensors)
    model = skeleton(chat_config)
    fill(model, tensors, names, CPU, lambda name: None, is_to_change=True)
    for name, parameter in model.named_parameters():
        assert (parameter.data_ptr() == addresses[name]) == (not name.startswith("llm.")), name
        assert torch.equal(parameter, kept[f"file.{name}"])


def test_a_weight_is_quantized_as_it_is_read(chat_config: ChatConfig) -> None:
    tensors, ours = stored(chat_config)
    names = {f"file.{name}": name for name in ours}
    expected = fingerprint(dict(tensors))
    model = skeleton(chat_config)
    found = fill(model, tensors, names, CPU, lambda name: torch.float32, "int8", is_to_change=True)
    assert found == expected, "of what the file holds"
    assert isinstance(model, ChatModel)
    attention = model.llm.blocks[0].attention
    assert isinstance(attention.query, Int8Linear)
    weight = ours["llm.layers.0.attention.query.weight"]
    assert torch.equal(attention.query.values, quantize(weight, "int8").values)
    embedding = model.llm.embedding.weight
    assert torch.equal(embedding, ours["llm.embedding.weight"].float()) and embedding.t().is_contiguous()
