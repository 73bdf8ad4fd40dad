"""`viscpm finetune`: chat, paint, vae."""
# ruff: noqa: T201 (a command line speaks by print)

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from models.finetune.chat import ChatSettings, ChatTask
from models.finetune.loop import RunSettings, train
from models.finetune.paint_cli import add_paint_commands
from models.finetune.schedule import Schedule
from models.finetune.sources import conversation_source
from models.finetune.start import chat_from_checkpoint, chat_from_sizes
from models.finetune.state import StateError
from models.tensor_files import CheckpointError

_DTYPES = {"float16": torch.float16, "float32": torch.float32, "bfloat16": torch.bfloat16}


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code: 0, 1 with one line on stderr for what failed, 2 for wrong flags, 130 when interrupted."""
    options = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    try:
        options.run(options)
    except (CheckpointError, StateError, OSError, ValueError) as error:
        print(f"viscpm finetune: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def run_settings(options: argparse.Namespace, identity: dict[str, object]) -> RunSettings:
    """The loop's settings of the flags that `add_run_flags` adds."""
    schedule = Schedule(
        options.steps, options.warmup_steps, options.warmup_start, options.warmup_shape, options.decay_steps
    )
    return RunSettings(
        output=options.output,
        schedule=schedule,
        seed=options.seed,
        batch_size=options.batch_size,
        accumulation=options.accumulation,
        betas=tuple(options.betas),
        weight_decay=options.weight_decay,
        max_gradient_norm=options.max_gradient_norm,
        precision=options.precision,
        save_every=options.save_every,
        validate_every=options.validate_every,
        log_every=options.log_every,
        loader_workers=options.loader_workers,
        resume=options.resume,
        identity=identity,
    )


def _chat(options: argparse.Namespace) -> None:
    if options.init:
        if options.vocabulary is None:
            raise ValueError("--init needs --vocabulary")
        model, tokenizer, vocabulary = chat_from_sizes(options.init, options.vocabulary, options.seed)
    else:
        model, tokenizer, vocabulary = chat_from_checkpoint(options.checkpoint, options.vocabulary)
    source = conversation_source(options.data, options.images, model.config.image_size_px, options.seed, options.easy)
    settings = ChatSettings(
        tune_vision=options.tune_vision,
        tune_llm=options.tune_llm,
        tune_patches=bool(options.init) if options.tune_patches is None else options.tune_patches,
        lr=options.lr,
        llm_lr=options.lr if options.llm_lr is None else options.llm_lr,
        max_len=options.max_len,
        export_dtype=_DTYPES[options.export_dtype],
    )
    train(ChatTask(model, tokenizer, vocabulary, source, settings), run_settings(options, {"task": "chat"}))


def add_run_flags(parser: argparse.ArgumentParser) -> None:
    """Flags of every task's run; the defaults are the release's recipe for Chat (SPEC §9)."""
    flag = parser.add_argument
    flag("--output", type=Path, required=True, metavar="DIR", help="states, logs and the outcome go there")
    flag("--seed", type=int, default=0)
    flag("--steps", type=int, required=True, metavar="N", help="updates in all, those before a resumption included")
    flag("--batch-size", type=int, default=1, metavar="N", help="examples of one process and backward (1)")
    flag("--accumulation", type=int, default=1, metavar="N", help="backwards of an update (1)")
    flag("--lr", type=float, default=1e-5, metavar="X", help="learning rate (1e-5)")
    flag("--betas", type=float, nargs=2, default=(0.9, 0.98), metavar="X", help="AdamW's (0.9 0.98)")
    flag("--weight-decay", type=float, default=0.01, metavar="X")
    flag("--warmup-steps", type=int, default=200, metavar="N")
    flag("--warmup-start", type=float, default=0.1, metavar="X", help="share of the learning rate to begin with (0.1)")
    flag("--warmup-shape", choices=("log", "linear"), default="log")
    flag("--decay-steps", type=int, default=0, metavar="N", help="the last N steps go down to 0 (none)")
    flag("--max-gradient-norm", type=float, default=0.0, metavar="X", help="clip to it (0: not)")
    flag("--precision", choices=("no", "fp16", "bf16"), help="mixed precision (accelerate's configuration)")
    flag("--save-every", type=int, default=500, metavar="N", help="steps between saved states (500)")
    flag("--validate-every", type=int, default=0, metavar="N", help="steps between validations (0: none)")
    flag("--log-every", type=int, default=50, metavar="N", help="steps between log lines (50)")
    flag("--loader-workers", type=int, default=0, metavar="N", help="processes that make batches (0: this one)")
    flag("--resume", action="store_true", help="go on from the newest saved state in DIR, if there is one")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="viscpm finetune", description="Train on your own data (docs/finetuning.md).")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    chat = commands.add_parser("chat", help="a Chat model on conversations about pictures")
    start = chat.add_mutually_exclusive_group(required=True)
    start.add_argument("--checkpoint", type=Path, metavar="PATH", help="published file or converted folder")
    start.add_argument("--init", type=Path, metavar="FILE", help="random weights of the sizes in a JSON file")
    chat.add_argument("--vocabulary", type=Path, metavar="FILE", help="vocab.txt (default: beside the checkpoint)")
    chat.add_argument("--data", required=True, metavar="FILE|emoji", help="JSON in LLaVA's layout, or composed emoji")
    chat.add_argument("--images", type=Path, metavar="DIR", help="folder of the pictures that the JSON names")
    chat.add_argument(
        "--easy", type=float, default=0.0, metavar="SHARE", help="of emoji that stand alone and large (0)"
    )
    switch = argparse.BooleanOptionalAction
    chat.add_argument("--tune-vision", action=switch, default=True, help="train the tower's image expert (yes)")
    chat.add_argument("--tune-llm", action=switch, default=True, help="train the language model (yes)")
    chat.add_argument("--tune-patches", action=switch, help="train the patch embedding (with --init alone)")
    chat.add_argument("--llm-lr", type=float, metavar="X", help="the language model's learning rate (that of --lr)")
    chat.add_argument("--max-len", type=int, default=512, metavar="N", help="longer rounds are skipped (512 tokens)")
    chat.add_argument("--export-dtype", choices=_DTYPES, default="float16")
    add_run_flags(chat)
    chat.set_defaults(run=_chat)
    add_paint_commands(commands, add_run_flags, run_settings)
    return parser


if __name__ == "__main__":
    sys.exit(main())
