"""Engines of the published sizes with random weights, made on the device itself, for `benchmarks/gpu_check.py`.

The worker loads them by dotted name; the checkpoint's name chooses the sizes: `full` (published) or `tiny`.
"""

from dataclasses import replace

import torch
from diffusers import AutoencoderKL

from models.checkpoints.config_from_shapes import PUBLISHED_CHAT, PUBLISHED_PAINT
from models.checkpoints.loading import LoadedChat, LoadedPaint
from models.checkpoints.random_weights import draw_weights, random_chat, random_paint
from models.checkpoints.tiny import tiny_vocabulary
from models.engines.chat.engine import WARM_UP_BLOCKS, ChatEngine
from models.engines.chat.kv_pool import pool_blocks
from models.engines.paint.engine import PaintEngine, describe
from models.engines.paint.painter import Painter
from models.engines.paint.unet.preparation import prepare_unet
from models.jobs import EngineConfig, Observe
from models.networks.chat.config import ChatConfig
from models.networks.cpm_bee.config import CPMBeeConfig
from models.networks.cpm_bee.folding import fold_scalings
from models.networks.cpm_bee.tokenizer import Tokenizer
from models.networks.paint.config import SD21_BASE_SCHEDULER, SD21_BASE_UNET, PaintConfig
from models.networks.vision.config import VisionConfig

SEED = 0
SD21_BASE_VAE_CHANNELS = (128, 256, 512, 512)  # SPEC §1.3
TINY_LLM = {"dim_model": 64, "dim_ff": 160, "num_layers": 2, "num_heads": 4, "dim_head": 16}
TINY_VISION = VisionConfig(width=64, num_heads=4, dim_ff=128, num_layers=2, num_query_positions=66)
TINY_UNET = {
    "attention_head_dim": [1, 2, 2, 2],
    "block_out_channels": [8, 16, 16, 16],
    "cross_attention_dim": 32,
    "norm_num_groups": 4,
    "sample_size": 16,
}


def create_chat(config: EngineConfig, observe: Observe) -> ChatEngine:
    sizes = PUBLISHED_CHAT if _is_full(config) else ChatConfig(llm=_tiny_llm(), vision=TINY_VISION)
    model = random_chat(sizes, config.device, getattr(torch, config.dtype), SEED)
    fold_scalings(model.llm)
    loaded = LoadedChat(
        model, made_up_tokenizer(sizes.llm), sizes, fingerprint=f"random-{config.checkpoint}", untrained=True
    )
    engine = ChatEngine(loaded, f"random-{config.checkpoint}", config.max_jobs, observe, WARM_UP_BLOCKS)
    engine.warm_up()
    weight = model.llm.embedding.weight
    engine.make_pool(pool_blocks(sizes.llm, weight.dtype, weight.device, config))
    return engine


def create_paint(config: EngineConfig, observe: Observe) -> PaintEngine:
    loaded = load_random_paint(config)
    model = loaded.model
    painter = Painter(
        model=model,
        vae=loaded.vae,
        scheduler_config=loaded.scheduler_config,
        steps_offset=config.steps_offset,
        rerankers={},
        device=torch.device(config.device),
    )
    description = describe(config, painter, loaded)
    prepare_unet(model.unet)
    engine = PaintEngine(painter, loaded.tokenizer, description, config.max_jobs, observe, full_every=config.full_every)
    engine.warm_up()
    return engine


def load_random_paint(config: EngineConfig) -> LoadedPaint:
    """Networks with random weights, as a checkpoint's folder gives them but for the scalings, which are folded."""
    is_full = _is_full(config)
    sizes = PUBLISHED_PAINT if is_full else PaintConfig(llm=_tiny_llm(), unet={**SD21_BASE_UNET, **TINY_UNET})
    device = torch.device(config.device)
    model = random_paint(sizes, device, getattr(torch, config.dtype), SEED)
    fold_scalings(model.llm)
    vae = _vae(SD21_BASE_VAE_CHANNELS if is_full else (4, 8, 8, 8), device)
    fingerprint = f"random-{config.checkpoint}"
    tokenizer = made_up_tokenizer(sizes.llm)
    return LoadedPaint(model, vae, dict(SD21_BASE_SCHEDULER), tokenizer, sizes, fingerprint, untrained=True)


def _is_full(config: EngineConfig) -> bool:
    if config.checkpoint not in ("full", "tiny"):
        raise ValueError(f"the checkpoint of a random engine is full or tiny, got {config.checkpoint!r}")
    return config.checkpoint == "full"


def _tiny_llm() -> CPMBeeConfig:
    return replace(PUBLISHED_CHAT.llm, vocab_size=len(tiny_vocabulary()), **TINY_LLM)


def made_up_tokenizer(llm: CPMBeeConfig) -> Tokenizer:
    """The tiny vocabulary, filled up with made-up words to the model's size."""
    entries = tiny_vocabulary()
    filled = [f"filler{i}" for i in range(llm.vocab_size - len(entries))]
    return Tokenizer.from_entries([*entries, *filled])


def _vae(channels: tuple[int, ...], device: torch.device) -> AutoencoderKL:
    vae = AutoencoderKL(
        block_out_channels=channels,
        down_block_types=["DownEncoderBlock2D"] * len(channels),
        up_block_types=["UpDecoderBlock2D"] * len(channels),
        latent_channels=4,
        layers_per_block=2 if channels == SD21_BASE_VAE_CHANNELS else 1,
        norm_num_groups=32 if channels == SD21_BASE_VAE_CHANNELS else 2,
        sample_size=768,
    ).to(device)
    draw_weights(vae.requires_grad_(False).eval(), SEED)
    return vae
