"""`viscpm finetune vae` and `viscpm finetune paint`: their flags, and the tasks that these mean."""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch

from models.checkpoint_files import load_vae, read_config
from models.finetune.captions import picture_sources
from models.finetune.loop import RunSettings, train
from models.finetune.vae import BOX_VAE, VAESettings, VAETask, random_vae

AddFlags = Callable[[argparse.ArgumentParser], None]
MakeSettings = Callable[[argparse.Namespace, dict[str, object]], RunSettings]
# What differs from the release's recipe, which is Chat's.
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


def _add_vae_flags(parser: argparse.ArgumentParser) -> None:
    flag = parser.add_argument
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--vae", type=Path, metavar="DIR", help="begin with this VAE (diffusers' layout)")
    start.add_argument(
        "--init", type=Path, metavar="FILE", help="random weights of the sizes in a JSON file (the box's)"
    )
    _add_data_flags(parser)
    flag("--edge-weight", type=float, default=VAESettings.edge_weight, metavar="X", help="of edges in the loss (0.5)")
    flag("--kl-weight", type=float, default=VAESettings.kl_weight, metavar="X", help="of the divergence (1e-6)")


def _add_data_flags(parser: argparse.ArgumentParser) -> None:
    flag = parser.add_argument
    flag("--data", required=True, metavar="FILE|emoji", help='JSON list of {"image", "caption"}, or composed emoji')
    flag("--images", type=Path, metavar="DIR", help="folder of the pictures that the JSON names")
    flag("--side-px", type=int, default=0, metavar="N", help="side of the pictures (what the model is made for)")
    flag("--num-validation", type=int, default=64, metavar="N", help="pictures validated on, not learnt from (64)")
    flag("--export-dtype", choices=("float16", "float32", "bfloat16"), default="float16")


def _train_vae(options: argparse.Namespace, settings: MakeSettings) -> None:
    if options.vae:
        vae = load_vae(options.vae, torch.device("cpu"))
    else:
        vae = random_vae(read_config(options.init) or BOX_VAE, options.seed)
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
