"""The model that a run begins with: a checkpoint's, or random weights of the sizes in a file."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from models.chat.config import ChatConfig
from models.chat.model import ChatModel
from models.checkpoint import load_chat
from models.checkpoint_files import VOCABULARY_FILE, find_vocabulary, read_config
from models.cpm_bee.tokenizer import Tokenizer
from models.random_weights import random_chat
from models.tensor_files import CheckpointError, tensor_file

TOWER_TABLE_STD = 0.5
POSITION_BIAS_STD = 0.02
_MEANING_SHARE = 0.75  # of the variance of rows drawn alike


def chat_from_checkpoint(path: Path, vocabulary: Path | None) -> tuple[ChatModel, Tokenizer, Path]:
    """Model in float32, tokenizer and vocabulary file of a checkpoint. Raises CheckpointError."""
    file = find_vocabulary(tensor_file(path), vocabulary)
    loaded = load_chat(path, file, dtype=torch.float32)
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


def draw_alike(embedding: Tensor, tokenizer: Tokenizer, spellings: Sequence[Sequence[str]], seed: int) -> None:
    """Draw the table's rows (V, W) of entries that mean the same anew, alike but for their kind of spelling.

    Args:
        spellings: of each meaning, kinds in the same order; a spelling that is no entry of the vocabulary is left out.
    """
    generator = torch.Generator().manual_seed(seed)
    width = embedding.shape[1]
    kinds = torch.randn(max(map(len, spellings), default=0), width, generator=generator)
    for meant in spellings:
        meaning = torch.randn(width, generator=generator)
        for kind, spelling in zip(kinds, meant, strict=False):
            ids, unknown = tokenizer.encode(spelling, {})
            if len(ids) == 1 and not unknown:
                row = _MEANING_SHARE**0.5 * meaning + (1 - _MEANING_SHARE) ** 0.5 * kind  # unit variance, as all rows
                embedding.data[ids[0]] = row.to(embedding)
