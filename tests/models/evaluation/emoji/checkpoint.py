"""A random checkpoint of the emoji's layout, small enough to be asked and to paint in a test."""

from pathlib import Path

import torch
from torch import nn

from models.checkpoints.companion_files import SCHEDULER_CONFIG_FILE, VOCABULARY_FILE
from models.checkpoints.conversion import write_folder, write_json
from models.checkpoints.published_names import Kind, published_name
from models.checkpoints.random_weights import random_chat, random_paint
from models.checkpoints.tiny import tiny_vae
from models.emoji.names import bundled_names
from models.emoji.texts.vocabulary import vocabulary
from models.networks.chat.config import ChatConfig
from models.networks.cpm_bee.config import CPMBeeConfig
from models.networks.paint.config import SD21_BASE_SCHEDULER, SD21_BASE_UNET, PaintConfig
from models.networks.vision.config import VisionConfig

SIDE_PX = 32
_UNET = {
    **SD21_BASE_UNET,
    "attention_head_dim": [1, 2],
    "block_out_channels": [8, 16],
    "cross_attention_dim": 16,
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "sample_size": 4,
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
}


def write_emoji_checkpoint(folder: Path, num_names: int) -> None:
    """`chat` and `paint` with the vocabulary of the first names."""
    entries = vocabulary(bundled_names()[:num_names])
    llm = CPMBeeConfig(len(entries), dim_model=32, dim_ff=48, num_layers=1, num_heads=2, dim_head=16)
    vision = VisionConfig(
        SIDE_PX, patch_size_px=16, width=32, num_heads=2, dim_ff=48, num_layers=1, num_query_positions=8
    )
    chat = ChatConfig(llm=llm, vision=vision, num_query_tokens=4)
    _write(folder / "chat", "chat", chat, random_chat(chat, "cpu", torch.float32, 1), entries)
    paint = PaintConfig(llm=llm, unet=_UNET)
    _write(folder / "paint", "paint", paint, random_paint(paint, "cpu", torch.float32, 2), entries)
    tiny_vae(3).save_pretrained(folder / "paint" / "vae")
    write_json(folder / "paint" / SCHEDULER_CONFIG_FILE, SD21_BASE_SCHEDULER)


def _write(folder: Path, kind: Kind, config: ChatConfig | PaintConfig, model: nn.Module, entries: list[str]) -> None:
    folder.mkdir(parents=True)
    (folder / VOCABULARY_FILE).write_text("\n".join(entries), encoding="utf-8")
    tensors = {published_name(kind, ours): tensor for ours, tensor in model.state_dict().items()}
    write_folder(folder, kind, config, tensors.items(), untrained=True)
