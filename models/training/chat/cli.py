"""`viscpm finetune chat`: its flags, and the task that these mean."""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch

from models.emoji.sources import Lessons
from models.training.chat.start import chat_from_checkpoint, chat_from_sizes, deepen, take_tower
from models.training.chat.task import ChatSettings, ChatTask
from models.training.loop import RunSettings, train
from models.training.lora import LoraSettings
from models.training.sources import DataSettings, conversation_sources, spellings_alike

AddFlags = Callable[[argparse.ArgumentParser], None]
MakeSettings = Callable[[argparse.Namespace, dict[str, object]], RunSettings]
_DTYPES = {"float16": torch.float16, "float32": torch.float32, "bfloat16": torch.bfloat16}


def add_chat_command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", add_run_flags: AddFlags, settings: MakeSettings
) -> None:
    """Add the command with its own flags and those of every run."""
    chat = commands.add_parser("chat", help="a Chat model on conversations about pictures")
    _add_model_flags(chat)
    _add_data_flags(chat)
    add_run_flags(chat)
    chat.set_defaults(run=lambda options: _train_chat(options, settings))


def _add_model_flags(parser: argparse.ArgumentParser) -> None:
    flag, switch = parser.add_argument, argparse.BooleanOptionalAction
    start = parser.add_mutually_exclusive_group(required=True)
    start.add_argument("--checkpoint", type=Path, metavar="PATH", help="published file or converted folder")
    start.add_argument("--init", type=Path, metavar="FILE", help="random weights of the sizes in a JSON file")
    flag("--vocabulary", type=Path, metavar="FILE", help="vocab.txt (default: beside the checkpoint)")
    flag("--tower", type=Path, metavar="PATH", help="vision tower and queries of this checkpoint instead")
    flag("--deepen", type=int, default=0, metavar="N", help="begin with N layers more in the language model (0)")
    flag("--tune-vision", action=switch, default=True, help="train the tower's image expert (yes)")
    flag("--tune-queries", action=switch, default=True, help="train the tower's query expert and the queries (yes)")
    flag("--tune-llm", action=switch, default=True, help="train the language model (yes)")
    flag("--tune-patches", action=switch, help="train the patch embedding (with --init alone)")
    flag("--llm-lr", type=float, metavar="X", help="the language model's learning rate (that of --lr)")
    flag("--embedding-lr", type=float, metavar="X", help="that of its table of tokens (that of --llm-lr)")
    flag("--lora-rank", type=int, default=0, metavar="N", help="train adapters of this rank alone (0: the weights)")
    flag("--lora-alpha", type=int, metavar="N", help="an adapter counts alpha / rank (alpha: twice the rank)")
    flag("--lora-parts", choices=("llm", "tower", "both"), default="llm", help="what gets adapters (llm)")
    flag("--lora-embedding", action="store_true", help="train the table of tokens beside the adapters")
    flag("--gradient-checkpointing", action="store_true", help="compute activations twice instead of keeping them")
    flag("--export-dtype", choices=_DTYPES, default="float16")
    flag("--export-published", action="store_true", help="write a .pt file and its configurations too")


def _add_data_flags(parser: argparse.ArgumentParser) -> None:
    flag, switch = parser.add_argument, argparse.BooleanOptionalAction
    flag("--data", required=True, metavar="FILE|emoji", help="JSON in LLaVA's layout, or composed emoji")
    flag("--images", type=Path, metavar="DIR", help="folder of the pictures that the JSON names")
    flag("--augment", action=switch, default=True, help="crop, flip and change the file's pictures at random (yes)")
    flag("--min-side-px", type=int, default=128, metavar="N", help="smaller pictures of a file are left out (128)")
    flag("--max-len", type=int, default=512, metavar="N", help="rounds of more tokens are left out (512)")
    flag("--replay", type=float, default=0.0, metavar="SHARE", help="of emoji conversations mixed into the file's (0)")
    flag("--singles-epochs", type=float, default=0.0, metavar="N", help="emoji: single things' names alone first (0)")
    flag("--names-epochs", type=float, default=0.0, metavar="N", help="emoji: then names of all there is to see (0)")
    flag("--brief-epochs", type=float, default=0.0, metavar="N", help="emoji: then conversations of one round (0)")
    flag("--where-epochs", type=float, default=0.0, metavar="N", help="emoji: where one of two things is first (0)")
    flag("--num-validation", type=int, default=0, metavar="N", help="conversations validated on, not learnt from (0)")


def _train_chat(options: argparse.Namespace, settings: MakeSettings) -> None:
    if options.init:
        if options.vocabulary is None:
            raise ValueError("--init needs --vocabulary")
        alike = spellings_alike(options.data)
        model, tokenizer, vocabulary = chat_from_sizes(options.init, options.vocabulary, options.seed, alike)
    else:
        model, tokenizer, vocabulary = chat_from_checkpoint(options.checkpoint, options.vocabulary)
    if options.tower is not None:
        take_tower(model, options.tower, options.vocabulary)
    if options.deepen:
        model = deepen(model, options.deepen)
    data = DataSettings(
        data=options.data,
        images=options.images,
        seed=options.seed,
        lessons=Lessons(options.singles_epochs, options.names_epochs, options.brief_epochs, options.where_epochs),
        replay=options.replay,
        is_augmented=options.augment,
        min_side_px=options.min_side_px,
        num_validation=options.num_validation,
    )
    source, validation = conversation_sources(data, model.config.image_size_px)
    torch.manual_seed(options.seed)  # adapters are drawn from it
    task = ChatTask(model, tokenizer, vocabulary, source, _chat_settings(options), validation)
    train(task, settings(options, {"task": "chat"}))


def _chat_settings(options: argparse.Namespace) -> ChatSettings:
    lora = None
    if options.lora_rank:
        alpha = 2 * options.lora_rank if options.lora_alpha is None else options.lora_alpha
        lora = LoraSettings(options.lora_rank, alpha, options.lora_parts, options.lora_embedding)
    llm_lr = options.lr if options.llm_lr is None else options.llm_lr
    return ChatSettings(
        tune_vision=options.tune_vision,
        tune_queries=options.tune_queries,
        tune_llm=options.tune_llm,
        tune_patches=bool(options.init) if options.tune_patches is None else options.tune_patches,
        lr=options.lr,
        llm_lr=llm_lr,
        embedding_lr=llm_lr if options.embedding_lr is None else options.embedding_lr,
        max_len=options.max_len,
        lora=lora,
        is_recomputed=options.gradient_checkpointing,
        export_dtype=_DTYPES[options.export_dtype],
        writes_published=options.export_published,
    )
