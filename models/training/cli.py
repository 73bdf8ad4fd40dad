"""`viscpm finetune`: chat, tower, paint, vae."""
# ruff: noqa: T201 (a command line speaks by print)

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from models.checkpoints.tensor_files import CheckpointError
from models.emoji.drawings import DrawingError
from models.training.chat.cli import add_chat_command
from models.training.chat.tower_cli import add_tower_command
from models.training.loop import RunSettings
from models.training.paint.cli import add_paint_commands
from models.training.schedule import Schedule
from models.training.state import StateError


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code: 0, 1 with one line on stderr for what failed, 2 for wrong flags, 130 when interrupted."""
    options = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    try:
        options.run(options)
    except (CheckpointError, DrawingError, StateError, OSError, ValueError) as error:
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
        epochs=options.epochs,
        seed=options.seed,
        batch_size=options.batch_size,
        accumulation=options.accumulation,
        betas=tuple(options.betas),
        weight_decay=options.weight_decay,
        max_gradient_norm=options.max_gradient_norm,
        muon_lr=options.muon_lr,
        precision=options.precision,
        save_every=options.save_every,
        validate_every=options.validate_every,
        log_every=options.log_every,
        loader_workers=options.loader_workers,
        resume=options.resume,
        export_only=options.export_only,
        identity=identity,
    )


def add_run_flags(parser: argparse.ArgumentParser) -> None:
    """Flags of every task's run; the defaults are the release's recipe for Chat (SPEC §9)."""
    flag = parser.add_argument
    flag("--output", type=Path, required=True, metavar="DIR", help="states, logs and the outcome go there")
    flag("--seed", type=int, default=0)
    flag("--steps", type=int, default=0, metavar="N", help="updates in all, those before a resumption included")
    flag("--epochs", type=float, default=5.0, metavar="X", help="where --steps is not given (5)")
    flag("--batch-size", type=int, default=1, metavar="N", help="examples of one process and backward (1)")
    flag("--accumulation", type=int, default=1, metavar="N", help="backwards of an update (1)")
    flag("--lr", type=float, default=1e-5, metavar="X", help="learning rate (1e-5)")
    flag("--betas", type=float, nargs=2, default=(0.9, 0.98), metavar="X", help="AdamW's (0.9 0.98)")
    flag("--muon-lr", type=float, default=0.0, metavar="X", help="Muon's, for hidden weights (0: AdamW for all)")
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
    flag("--export-only", type=Path, metavar="DIR", help="export the newest saved state there; train nothing")
    flag("--resume", action="store_true", help="go on from the newest saved state in DIR, if there is one")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="viscpm finetune", description="Train on your own data (docs/models/finetuning.md)."
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    add_chat_command(commands, add_run_flags, run_settings)
    add_tower_command(commands, add_run_flags, run_settings)
    add_paint_commands(commands, add_run_flags, run_settings)
    return parser


if __name__ == "__main__":
    sys.exit(main())
