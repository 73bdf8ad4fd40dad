"""Random models: of the dtype asked for, the same for a seed, and neither vanishing nor growing with depth."""

import pytest
import torch

from models.checkpoints.random_weights import random_chat, random_paint
from models.networks.chat.config import ChatConfig
from models.networks.paint.config import PaintConfig


@pytest.mark.slow
def test_a_chat_model_of_a_seed(chat_config: ChatConfig) -> None:
    first, again, other = (random_chat(chat_config, "cpu", torch.bfloat16, seed) for seed in (1, 1, 2))
    for (name, parameter), same in zip(first.named_parameters(), again.parameters(), strict=True):
        assert parameter.dtype == torch.bfloat16
        assert not parameter.requires_grad
        assert torch.equal(parameter, same), name
    assert not torch.equal(first.query_tokens, other.query_tokens)
    assert not first.training


def test_image_embeddings_are_of_ordinary_size(chat_config: ChatConfig) -> None:
    model = random_chat(chat_config, "cpu", torch.float32, seed=1)
    embeddings = model.image_embeddings(torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    assert 0.1 < embeddings.std() < 3


@pytest.mark.slow
def test_paint_has_two_dtypes(paint_config: PaintConfig) -> None:
    model = random_paint(paint_config, "cpu", torch.float16, seed=1, unet_dtype=torch.float32)
    assert {parameter.dtype for parameter in model.llm.parameters()} == {torch.float16}
    assert {parameter.dtype for parameter in model.unet.parameters()} == {torch.float32}
    assert {parameter.dtype for parameter in model.prompt_adapter.parameters()} == {torch.float32}
    assert model.unet(torch.randn(1, 4, 8, 8), 3, torch.randn(1, 2, 16)).sample.isfinite().all()
