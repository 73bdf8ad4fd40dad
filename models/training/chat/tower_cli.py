"""`viscpm finetune tower`: its flags, and the task that these mean."""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch

from models.training.chat.start import chat_from_checkpoint, chat_from_sizes
from models.training.chat.tower import TowerTask
from models.training.loop import RunSettings, train
from models.training.sources import VALIDATION_SEED, emoji_conversations

AddFlags = Callable[[argparse.ArgumentParser], None]
MakeSettings = Callable[[argparse.Namespace, dict[str, object]], RunSettings]


def add_tower_command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", add_run_flags: AddFlags, settings: MakeSettings
) -> None:
    """Add the command with its own flags and those of every run."""
    tower = commands.add_parser("tower", help="a Chat model's vision tower on what emoji scenes show")
    flag = tower.add_argument
    start = tower.add_mutually_exclusive_group(required=True)
    start.add_argument("--checkpoint", type=Path, metavar="PATH", help="published file or converted folder")
    start.add_argument("--init", type=Path, metavar="FILE", help="random weights of the sizes in a JSON file")
    flag("--vocabulary", type=Path, metavar="FILE", help="vocab.txt (default: beside the checkpoint)")
    flag("--num-validation", type=int, default=0, metavar="N", help="scenes validated on, not learnt from (0)")
    add_run_flags(tower)
    tower.set_defaults(run=lambda options: _train_tower(options, settings))


def _train_tower(options: argparse.Namespace, settings: MakeSettings) -> None:
    from models.emoji.scene_labels import EmojiSceneLabels

    if options.init:
        if options.vocabulary is None:
            raise ValueError("--init needs --vocabulary")
        model, _, vocabulary = chat_from_sizes(options.init, options.vocabulary, options.seed)
    else:
        model, _, vocabulary = chat_from_checkpoint(options.checkpoint, options.vocabulary)
    side_px = model.config.image_size_px
    torch.manual_seed(options.seed)  # the heads are drawn from it
    source = EmojiSceneLabels(emoji_conversations(side_px, options.seed))
    validation = None
    if options.num_validation:
        validation = EmojiSceneLabels(
            emoji_conversations(side_px, options.seed + VALIDATION_SEED), options.num_validation
        )
    task = TowerTask(model, vocabulary, source, options.lr, validation=validation)
    train(task, settings(options, {"task": "tower"}))
