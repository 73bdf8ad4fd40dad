"""`viscpm finetune vae` and `viscpm finetune paint`: their flags, and the tasks that these mean."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from models.checkpoints.companion_files import load_vae, read_config
from models.training.loop import RunSettings, train
from models.training.paint.settings import PaintSettings, VAESettings
from models.training.paint.sources import picture_sources
from models.training.sources import spellings_alike

if TYPE_CHECKING:  # Paint brings diffusers, which takes seconds to import, and training Chat needs none of it
    from models.training.paint.start import PaintStart

AddFlags = Callable[[argparse.ArgumentParser], None]
MakeSettings = Callable[[argparse.Namespace, dict[str, object]], RunSettings]
_DTYPES = ("float16", "float32", "bfloat16")
# What differs from the flags' common defaults, which are the release's recipe for Chat.
_PAINT_DEFAULTS = {"betas": (0.9, 0.999), "warmup_shape": "linear", "max_gradient_norm": 1.0}
_VAE_DEFAULTS = {"lr": 1e-3, "weight_decay": 0.0, "max_gradient_norm": 1.0, "warmup_shape": "linear"}


def add_paint_commands(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", add_run_flags: AddFlags, settings: MakeSettings
) -> None:
    """Add both commands, with the flags of every run and defaults of their own."""
    vae = commands.add_parser(
        "vae",
        help="a VAE for pictures of one's own kind",
        description="Train a VAE from random weights or from one's own. Its own defaults: --lr 1e-3, "
        "--weight-decay 0, --max-gradient-norm 1, --warmup-shape linear.",
    )
    _add_vae_flags(vae)
    add_run_flags(vae)
    vae.set_defaults(run=lambda options: _train_vae(options, settings), **_VAE_DEFAULTS)

    paint = commands.add_parser(
        "paint",
        help="a Paint model on captioned pictures",
        description="Train a Paint model; which of its parts is said by --train. Its own defaults: --betas 0.9 0.999, "
        "--warmup-shape linear, --max-gradient-norm 1.",
    )
    _add_paint_flags(paint)
    add_run_flags(paint)
    paint.set_defaults(run=lambda options: _train_paint(options, settings), **_PAINT_DEFAULTS)


def _add_vae_flags(parser: argparse.ArgumentParser) -> None:
    flag = parser.add_argument
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--vae", type=Path, metavar="DIR", help="begin with this VAE (diffusers' layout)")
    start.add_argument(
        "--init",
        type=Path,
        metavar="FILE",
        help="random weights of the sizes in a JSON file (the bundled checkpoint's)",
    )
    _add_data_flags(parser)
    flag("--edge-weight", type=float, default=VAESettings.edge_weight, metavar="X", help="of edges in the loss (0.5)")
    flag("--kl-weight", type=float, default=VAESettings.kl_weight, metavar="X", help="of the divergence (1e-6)")
    flag("--export-dtype", choices=_DTYPES, default="float16")


def _add_data_flags(parser: argparse.ArgumentParser) -> None:
    flag = parser.add_argument
    flag("--data", required=True, metavar="FILE|emoji", help='JSON list of {"image", "caption"}, or composed emoji')
    flag("--images", type=Path, metavar="DIR", help="folder of the pictures that the JSON names")
    flag("--side-px", type=int, default=0, metavar="N", help="side of the pictures (what the model is made for)")
    flag("--num-validation", type=int, default=64, metavar="N", help="pictures validated on, not learnt from (64)")


def _add_paint_flags(parser: argparse.ArgumentParser) -> None:
    flag = parser.add_argument
    start = parser.add_mutually_exclusive_group(required=True)
    start.add_argument("--checkpoint", type=Path, metavar="PATH", help="published file or converted folder")
    start.add_argument("--init", type=Path, metavar="FILE", help="random weights of the sizes in a JSON file")
    flag("--vocabulary", type=Path, metavar="FILE", help="vocab.txt (default: beside the checkpoint)")
    flag("--vae", type=Path, metavar="DIR", help="the VAE (default: beside the checkpoint)")
    _add_data_flags(parser)
    flag(
        "--train",
        choices=("adapter", "bridge", "all"),
        default=PaintSettings.train,
        help="the prompt adapter; with it the UNet's cross attention (as the release); or everything",
    )
    flag(
        "--curriculum",
        type=float,
        nargs=2,
        metavar=("DOUBLING", "MIXING"),
        help="emoji, from random weights: epochs until the names double, until colours and places are mixed in",
    )
    flag("--llm-lr", type=float, metavar="X", help="the language model's learning rate (that of --lr)")
    flag("--embedding-lr", type=float, metavar="X", help="that of its table of tokens (that of --llm-lr)")
    flag("--llm-dtype", choices=_DTYPES, default="float32", help="of a checkpoint's frozen language model (float32)")
    flag("--empty-share", type=float, default=PaintSettings.empty_share, metavar="X", help="of captions (0.1)")
    flag("--min-snr", type=float, default=PaintSettings.min_snr, metavar="X", help="gamma of its weighting (0: none)")
    flag("--ema-decay", type=float, default=PaintSettings.ema_decay, metavar="X", help="0: no average (0.999)")
    flag("--cache-latents", action="store_true", help="encode a picture once; for pictures that come again")
    flag("--guidance-scale", type=float, default=PaintSettings.guidance_scale, metavar="X", help="of samples (7.5)")
    flag("--export-dtype", choices=_DTYPES, default="float32", help="of adapter and UNet (float32)")


def _train_vae(options: argparse.Namespace, settings: MakeSettings) -> None:
    from models.training.paint.vae import VAETask, random_vae

    if options.vae:
        vae = load_vae(options.vae, torch.device("cpu"))
    else:
        vae = random_vae(read_config(options.init), options.seed)
    side_px = options.side_px or int(vae.config.sample_size)
    sources = picture_sources(options.data, options.images, side_px, options.seed, options.num_validation)
    vae_settings = VAESettings(
        lr=options.lr,
        edge_weight=options.edge_weight,
        kl_weight=options.kl_weight,
        num_validation=options.num_validation,
        export_dtype=getattr(torch, options.export_dtype),
    )
    pictures = options.output / "reconstructions.png"
    task = VAETask(vae, sources.training, sources.validation, options.seed, vae_settings, pictures)
    train(task, settings(options, {"task": "vae"}))


def _train_paint(options: argparse.Namespace, settings: MakeSettings) -> None:
    from models.training.paint.task import PaintTask
    from models.training.paint.vae import latent_px

    start = _paint_start(options)
    side_px = options.side_px or int(start.model.unet.config.sample_size) * latent_px(start.vae)
    curriculum = tuple(options.curriculum) if options.curriculum else None
    sources = picture_sources(options.data, options.images, side_px, options.seed, options.num_validation, curriculum)
    llm_lr = options.lr if options.llm_lr is None else options.llm_lr
    paint_settings = PaintSettings(
        train=options.train,
        lr=options.lr,
        llm_lr=llm_lr,
        embedding_lr=llm_lr if options.embedding_lr is None else options.embedding_lr,
        empty_share=options.empty_share,
        min_snr=options.min_snr,
        ema_decay=options.ema_decay,
        cache_latents=options.cache_latents,
        num_validation=options.num_validation,
        guidance_scale=options.guidance_scale,
        export_dtype=getattr(torch, options.export_dtype),
    )
    task = PaintTask(start, sources.training, sources.validation, options.seed, paint_settings, pictures=options.output)
    train(task, settings(options, {"task": "paint", "train": options.train}))


def _paint_start(options: argparse.Namespace) -> "PaintStart":
    from models.training.paint.start import paint_from_checkpoint, paint_from_sizes

    if not options.init:
        dtype = torch.float32 if options.train == "all" else getattr(torch, options.llm_dtype)
        return paint_from_checkpoint(options.checkpoint, options.vocabulary, options.vae, dtype)
    if options.vocabulary is None or options.vae is None:
        raise ValueError("--init needs --vocabulary and --vae")
    alike = spellings_alike(options.data)
    return paint_from_sizes(options.init, options.vocabulary, options.vae, options.seed, alike)
