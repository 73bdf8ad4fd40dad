"""Fixtures of CPM-Bee's tests: a tiny random model and prompts for it."""

from collections.abc import Callable, Sequence

import pytest
import torch

from models.networks.cpm_bee.config import CPMBeeConfig
from models.networks.cpm_bee.model import CPMBee
from models.networks.cpm_bee.packing import PackedBatch, pack_chat
from models.networks.cpm_bee.tokenizer import Tokenizer


@pytest.fixture
def config(tokenizer: Tokenizer) -> CPMBeeConfig:
    """Heads times head width is not the model's width, and distances within a segment reach the logarithmic buckets."""
    return CPMBeeConfig(
        vocab_size=tokenizer.vocab_size,
        dim_model=32,
        dim_ff=56,
        num_layers=3,
        num_heads=3,
        dim_head=8,
        num_position_buckets=16,
        num_segment_buckets=64,
        max_distance=40,
    )


@pytest.fixture
def llm(config: CPMBeeConfig) -> CPMBee:
    torch.manual_seed(0)
    model = CPMBee(config).eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.uniform_(0.5, 1.5)
    return model


@pytest.fixture
def pack(tokenizer: Tokenizer) -> Callable[[Sequence[str]], PackedBatch]:
    """Questions -> chat prompts padded on the left."""

    def pack(questions: Sequence[str]) -> PackedBatch:
        trees = [{"image": "<unk>" * 4, "context": "", "question": text, "<ans>": ""} for text in questions]
        return pack_chat(trees, tokenizer)

    return pack
