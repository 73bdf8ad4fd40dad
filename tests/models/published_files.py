"""Small checkpoints in the published layout: one bare file with a vocabulary beside it, for Chat and for Paint.

Fixtures for the conftest.py of the folders that use them.
"""

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.checkpoints.conversion import write_json
from models.checkpoints.published_names import published_name
from models.checkpoints.random_weights import random_chat, random_paint
from models.checkpoints.tiny import tiny_vae
from models.networks.chat.config import ChatConfig
from models.networks.cpm_bee.config import CPMBeeConfig
from models.networks.paint.config import SD21_BASE_UNET, PaintConfig
from models.networks.vision.config import VisionConfig

VOCABULARY = ["<pad>", "<unk>", "</n>", "</_>", "<s>", "</s>", "<root>", "<ans>", *"abcdefghijklmnop"]
LLM = CPMBeeConfig(vocab_size=len(VOCABULARY), dim_model=32, dim_ff=40, num_layers=2, num_heads=4, dim_head=8)
# 64 wide, so that the shapes alone tell the sizes: one head of 64.
CHAT = ChatConfig(
    llm=LLM,
    vision=VisionConfig(
        image_size_px=32, patch_size_px=8, width=64, num_heads=1, dim_ff=72, num_layers=2, num_query_positions=10
    ),
    num_query_tokens=6,
)
PAINT = PaintConfig(
    llm=LLM,
    unet={
        **SD21_BASE_UNET,
        "attention_head_dim": [1, 2],
        "block_out_channels": [8, 16],
        "cross_attention_dim": 16,
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "sample_size": 8,
        "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
    },
)

Tensors = dict[str, Tensor]
Save = Callable[..., Path]


@pytest.fixture
def chat_tensors() -> Tensors:
    """As published: float16, with the tensors that no model uses."""
    model = random_chat(CHAT, "cpu", torch.float32, seed=1).half()
    tensors = OrderedDict((published_name("chat", ours), tensor) for ours, tensor in model.state_dict().items())
    tensors["vpm.mim_head.weight"] = torch.ones(5, 64).half()
    tensors["vpm.mim_head.bias"] = torch.ones(5).half()
    tensors["vpm.beit3.text_embed.weight"] = torch.ones(9, 64).half()
    tensors["vpm.beit3.vision_embed.mask_token"] = torch.ones(1, 1, 64).half()
    return tensors


@pytest.fixture
def paint_tensors() -> Tensors:
    """As published: the language model in float16, the rest in float32."""
    model = random_paint(PAINT, "cpu", torch.float32, seed=2)
    model.llm.half()
    return OrderedDict((published_name("paint", ours), tensor) for ours, tensor in model.state_dict().items())


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Writes tensors as torch.save does, in a folder of their own, with vocab.txt beside them."""

    def write(tensors: object, name: str = "pytorch_model.bin", vocabulary: list[str] | None = VOCABULARY) -> Path:
        file = tmp_path / f"published{len(list(tmp_path.iterdir()))}" / name
        file.parent.mkdir()
        torch.save(tensors, file)
        if vocabulary is not None:
            (file.parent / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
        return file

    return write


@pytest.fixture
def chat_file(chat_tensors: Tensors, save: Save) -> Path:
    return save(chat_tensors, "pytorch_model.v1.bin")


@pytest.fixture
def paint_file(paint_tensors: Tensors, save: Save) -> Path:
    """With the UNet's configuration and a VAE beside it."""
    file = save(paint_tensors, "viscpm_paint_balance_checkpoint.pt")
    write_json(file.parent / "unet" / "config.json", PAINT.unet)
    tiny_vae(seed=3).save_pretrained(file.parent / "vae")
    return file


@pytest.fixture(scope="session")
def chat_config() -> ChatConfig:
    return CHAT


@pytest.fixture(scope="session")
def paint_config() -> PaintConfig:
    return PAINT
