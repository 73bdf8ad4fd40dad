"""Tiny checkpoints: a Chat and a Paint model of a few hundred thousand random weights, in full working order.

Untrained: their answers are random text and their pictures are noise. They are for tests and for trying the code.
"""

import string
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import nn

from models.checkpoints.companion_files import SCHEDULER_CONFIG_FILE, VOCABULARY_FILE
from models.checkpoints.conversion import write_folder, write_json
from models.checkpoints.published_names import Kind, published_name
from models.checkpoints.random_weights import draw_weights, random_chat, random_paint
from models.networks.chat.config import ChatConfig
from models.networks.cpm_bee.config import CPMBeeConfig
from models.networks.cpm_bee.tokenizer import Tokenizer
from models.networks.paint.config import SD21_BASE_SCHEDULER, SD21_BASE_UNET, PaintConfig
from models.networks.vision.config import VisionConfig

_SPECIAL = ("<pad>", "<unk>", "<mask>", "<sep>", "</n>", "</_>", "<s>", "</s>", "<root>", "<ans>", "<option>")
_WORDS = ("image", "context", "question", "caption", "objects", "User", "AI", " the", " a", " of", " is", " and")
_CHINESE_PUNCTUATION = "，。！？：；、（）《》“”‘’…—"
# Random text ends by chance alone; the larger this row, the sooner.
_EOS_SCALE = 5.0

_VISION = VisionConfig(width=64, num_heads=4, dim_ff=128, num_layers=2, num_query_positions=66)
# Attention at the middle level only: at 64 x 64 latents it would take most of the time on a CPU.
_UNET = {
    **SD21_BASE_UNET,
    "attention_head_dim": [1, 2, 2],
    "block_out_channels": [8, 16, 16],
    "cross_attention_dim": 32,
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "sample_size": 32,
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
}
_VAE_CHANNELS = (4, 8, 8, 8)


def write_tiny_checkpoints(folder: Path, seed: int, eos_scale: float = _EOS_SCALE) -> None:
    """Write `chat` and `paint` into a folder, as converted checkpoints with random weights of a seed.

    Args:
        eos_scale: of eos' row of the table; with 0 it is in the middle of all tokens, and no top-k sampling ends by it.
    """
    vocabulary = tiny_vocabulary()
    llm = CPMBeeConfig(vocab_size=len(vocabulary), dim_model=64, dim_ff=160, num_layers=2, num_heads=4, dim_head=16)
    eos_id = Tokenizer.from_entries(vocabulary).eos_id

    chat = ChatConfig(llm=llm, vision=_VISION)
    chat_model = random_chat(chat, "cpu", torch.float32, seed)
    chat_model.llm.embedding.weight[eos_id] *= eos_scale
    _write(folder / "chat", "chat", chat, chat_model.half(), vocabulary)

    paint = PaintConfig(llm=llm, unet=_UNET)
    paint_model = random_paint(paint, "cpu", torch.float32, seed + 1)
    paint_model.llm.half()
    _write(folder / "paint", "paint", paint, paint_model, vocabulary)
    tiny_vae(seed + 2).save_pretrained(folder / "paint" / "vae")
    write_json(folder / "paint" / SCHEDULER_CONFIG_FILE, SD21_BASE_SCHEDULER)


def tiny_vocabulary() -> list[str]:
    """Special tokens, printable ASCII, the 3,755 Chinese characters in commonest use (GB 2312, first level)."""
    plain = [*string.digits, *string.ascii_letters, *string.punctuation, *_CHINESE_PUNCTUATION, *_WORDS]
    rows, columns = range(0xB0, 0xD8), range(0xA1, 0xFF)
    chinese = b"".join(bytes((row, column)) for row in rows for column in columns).decode("gb2312", errors="ignore")
    return [*_SPECIAL, *plain, *chinese, "<eod>"]


def _write(folder: Path, kind: Kind, config: ChatConfig | PaintConfig, model: nn.Module, vocabulary: list[str]) -> None:
    folder.mkdir(parents=True)
    tensors = {published_name(kind, ours): tensor for ours, tensor in model.state_dict().items()}
    (folder / VOCABULARY_FILE).write_text("\n".join(vocabulary), encoding="utf-8")
    write_folder(folder, kind, config, tensors.items(), untrained=True)


def tiny_vae(seed: int) -> AutoencoderKL:
    """Random weights in the structure of the published VAE: four levels, so a latent stands for 8 x 8 pixels."""
    vae = AutoencoderKL(
        block_out_channels=_VAE_CHANNELS,
        down_block_types=["DownEncoderBlock2D"] * len(_VAE_CHANNELS),
        up_block_types=["UpDecoderBlock2D"] * len(_VAE_CHANNELS),
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
        sample_size=256,
    )
    draw_weights(vae.requires_grad_(False), seed)
    return vae
