"""The model that a run begins with: a checkpoint's, or random weights of the sizes in a file."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from models.checkpoints.companion_files import VOCABULARY_FILE, find_vocabulary, read_config
from models.checkpoints.loading import load_chat
from models.checkpoints.quantization.stored import refuse_quantized
from models.checkpoints.random_weights import random_chat
from models.checkpoints.tensor_files import CheckpointError, tensor_file
from models.networks.chat.config import ChatConfig
from models.networks.chat.model import ChatModel
from models.networks.cpm_bee.layers import RESIDUAL_DIVISOR
from models.networks.cpm_bee.tokenizer import Tokenizer
from models.training.initial_weights import POSITION_BIAS_STD, draw_alike

TOWER_TABLE_STD = 0.5
_LLM_LAYERS = "llm.layers."
_WRITES = ("attention.output.weight", "feed_forward.down.weight")  # what a layer adds comes through these


def chat_from_checkpoint(path: Path, vocabulary: Path | None) -> tuple[ChatModel, Tokenizer, Path]:
    """Model in float32, tokenizer and vocabulary file of a checkpoint. Raises CheckpointError."""
    file = find_vocabulary(tensor_file(path), vocabulary)
    loaded = load_chat(path, file, dtype=torch.float32)
    refuse_quantized(loaded.quantization, path, "trained")
    return loaded.model, loaded.tokenizer, file


def chat_from_sizes(
    config: Path, vocabulary: Path, seed: int, spellings: Sequence[Sequence[str]] = ()
) -> tuple[ChatModel, Tokenizer, Path]:
    """Random weights for training from scratch; `vocab_size` may be left out of the file.

    Args:
        spellings: see `draw_alike`.

    Raises:
        CheckpointError: the files cannot be used.
    """
    fields = dict(read_config(config))
    try:
        tokenizer = Tokenizer(vocabulary)
        fields["llm"] = {"vocab_size": tokenizer.vocab_size, **fields["llm"]}
        sizes = ChatConfig.from_published(fields)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{config} and {vocabulary}: no usable sizes and {VOCABULARY_FILE}: {error}") from error
    if sizes.llm.vocab_size != tokenizer.vocab_size:
        raise CheckpointError(f"{vocabulary}: {tokenizer.vocab_size} entries, {config} wants {sizes.llm.vocab_size}")
    model = random_chat(sizes, "cpu", torch.float32, seed)
    soften(model, seed)
    draw_alike(model.llm.embedding.weight, tokenizer, spellings, seed)
    return model, tokenizer, vocabulary


def take_tower(model: ChatModel, checkpoint: Path, vocabulary: Path | None) -> None:
    """Give a model the vision tower and the queries of a checkpoint. Raises CheckpointError."""
    other, _, _ = chat_from_checkpoint(checkpoint, vocabulary)
    if (other.config.vision, other.config.num_query_tokens) != (model.config.vision, model.config.num_query_tokens):
        raise CheckpointError(f"{checkpoint}: its tower is {other.config.vision}, wanted is {model.config.vision}")
    model.vision_encoder.load_state_dict(other.vision_encoder.state_dict())
    model.query_tokens.data.copy_(other.query_tokens)


def deepen(model: ChatModel, count: int) -> ChatModel:
    """A copy with `count` layers more below the language model's, copies of its first that write nothing yet.

    A layer makes what passes through smaller (SPEC §4), so what the others write becomes smaller by as much.

    What a question needs from an earlier turn takes a layer more than what it asks of the picture: all values of the
    tree stand in one relation to the answer, so that tokens have to learn first which of them are the question's.
    """
    llm = replace(model.config.llm, num_layers=model.config.llm.num_layers + count)
    deeper = ChatModel(replace(model.config, llm=llm)).to(model.query_tokens)
    state: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        if not name.startswith(_LLM_LAYERS):
            state[name] = tensor
            continue
        number, part = name.removeprefix(_LLM_LAYERS).split(".", 1)
        factor = RESIDUAL_DIVISOR ** (-2 * count) if part in _WRITES else 1.0
        state[f"{_LLM_LAYERS}{int(number) + count}.{part}"] = tensor * factor
        if number == "0":
            added = torch.zeros_like(tensor) if part in _WRITES else tensor
            state |= {f"{_LLM_LAYERS}{place}.{part}": added for place in range(count)}
    deeper.load_state_dict(state)
    return deeper.requires_grad_(False).eval()


def soften(model: ChatModel, seed: int) -> None:
    """Draw anew what is added to something with a scale of its own: positions, queries, position biases.

    The tower's tables reach half the scale of what they are added to; much smaller ones hide for hundreds of steps
    where a patch is and which query asks.
    """
    generator = torch.Generator().manual_seed(seed)
    vision = model.vision_encoder
    for table in (vision.class_token, vision.image_positions, vision.query_positions, model.query_tokens):
        nn.init.normal_(table, std=TOWER_TABLE_STD, generator=generator)
    nn.init.normal_(model.llm.position_bias.weight, std=POSITION_BIAS_STD, generator=generator)
