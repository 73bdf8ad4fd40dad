"""`viscpm evaluate pictures`: zero-shot FID and CLIP score of what a Paint model paints from captions."""
# ruff: noqa: T201 (a command line speaks by print)

import argparse
import asyncio
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch
from tqdm import tqdm

from models.evaluation.arguments import api_key, natural, positive
from models.evaluation.errors import EvaluationError
from models.evaluation.http_calls import Retries, open_client, served_model
from models.evaluation.image_quality.caption_painting import (
    Paintings,
    PaintSettings,
    how_painted,
    paint_by_service,
    paint_locally,
    painted,
    read_captions,
)
from models.evaluation.image_quality.clip_model import load_clip
from models.evaluation.image_quality.feature_extractor import load_extractor
from models.evaluation.image_quality.inception import WEIGHTS_FILE
from models.evaluation.image_quality.metrics import ClipScore, FrechetDistance, measure_painted, measure_real
from models.evaluation.json_lines import write_whole
from models.evaluation.picture_files import list_pictures
from models.jobs import EngineConfig, PaintJob

STEPS_OFFSET: Literal[0] = 0  # timesteps of the pinned diffusers, which the release used (SPEC §8.4)
_NAMED_AT_MOST = 10


def run(options: argparse.Namespace) -> int:
    """Paints what is missing, measures what was asked for, reports. The exit code: 0."""
    if not (options.real or options.clip or options.checkpoint or options.url):
        raise EvaluationError("nothing to do: give --real for the FID, --clip for the CLIP score, or what is to paint")
    captions = read_captions(options.captions, options.limit)
    # The networks first: that a file is missing should be told before a week of painting.
    distance, score = _measures(options)
    failures = _paint(options, captions)
    there = painted(options.painted, len(captions))
    if not there:
        raise EvaluationError(
            f"{options.painted}: none of the {len(captions)} captions has a picture{_listed(failures)}"
        )
    report: dict[str, Any] = {
        "fid": None,
        "clip_score": None,
        "captions": {"file": str(options.captions), "count": len(captions), "painted": len(there)},
        "failed": failures,
        "painting": how_painted(options.painted) or None,
    }
    if distance is not None:
        report["real"] = {"source": _take_real(distance, options), "pictures": distance.num_real}
    if distance is not None or score is not None:
        pictures = {file: captions[place] for place, file in there.items()}
        with _bar("measuring", len(pictures)) as bar:
            measure_painted(pictures, distance, score, options.size_px, options.batch_size, options.workers, bar.update)
    if distance is not None:
        extractor = distance.extractor
        report["fid"] = round(distance.compute(), 4)
        report["extractor"] = {"file": extractor.name, "sha256": extractor.sha256, "features": extractor.num_features}
        report["size_px"] = distance.size_px
    if score is not None:
        report["clip_score"] = round(score.compute(), 4)
        report["clip"] = options.clip.resolve().name
    _tell(report, options)
    return 0


def _measures(options: argparse.Namespace) -> tuple[FrechetDistance | None, ClipScore | None]:
    device = torch.device(options.device)
    distance, score = None, None
    if options.real:
        if not options.real.exists():
            raise EvaluationError(f"{options.real}: neither a folder of real pictures nor a file of their statistics")
        extractor = load_extractor(options.extractor, device, options.size_px)
        distance = FrechetDistance(extractor, options.size_px, device)
    if options.clip:
        score = ClipScore(load_clip(options.clip, device), device)
    return distance, score


def _take_real(distance: FrechetDistance, options: argparse.Namespace) -> str:
    """Measures the real pictures, or takes saved statistics; returns where they are from."""
    if options.real.is_file():
        return distance.load_real(options.real)
    files = list_pictures(options.real)
    with _bar("real pictures", len(files)) as bar:
        measure_real(distance, files, options.batch_size, options.workers, bar.update)
    if options.save_real_statistics:
        distance.save_real(options.save_real_statistics, str(options.real))
    return str(options.real)


def _paint(options: argparse.Namespace, captions: Sequence[str]) -> list[str]:
    """Paints the captions that have no picture, where there is something to paint with; returns what went wrong."""
    if options.rerank == "off" and options.candidates > 1:
        raise EvaluationError(f"--candidates {options.candidates} without --rerank on: only the first would count")
    if options.url:
        return asyncio.run(_paint_by_service(options, captions))
    return _paint_here(options, captions) if options.checkpoint else []


def _paint_here(options: argparse.Namespace, captions: Sequence[str]) -> list[str]:
    from models.engines.paint.engine import create_engine

    if options.rerank == "on" and not options.reranker:
        raise EvaluationError("--rerank on needs --reranker, the folder of a Chinese-CLIP")
    config = EngineConfig(
        kind="paint",
        checkpoint=str(options.checkpoint),
        vocabulary=str(options.vocabulary or ""),
        vae=str(options.vae or ""),
        # A job says "zh" unless told otherwise, so one reranker judges captions in any language, as in the release.
        rerankers={"zh": str(options.reranker)} if options.reranker else {},
        device=options.device,
        dtype=options.dtype,
        steps_offset=STEPS_OFFSET,
    )
    engine = create_engine(config, lambda name, value: None)
    model = engine.description
    settings = _settings(options, options.paint_size_px or model.picture_size_px)
    about = {
        "model": options.model_id or model.name,
        "fingerprint": model.fingerprint,
        "untrained": model.untrained,
        "dtype": model.dtype,
        "sampler": f"DDPM, leading timesteps, offset {STEPS_OFFSET}",
        "reranker": model.rerankers["zh"] if settings.rerank == "on" else "",
        **asdict(settings),
    }
    paintings = Paintings(options.painted, captions, about)
    missing = paintings.missing(options.part)
    with _bar("painting", len(missing)) as bar:
        return paint_locally(paintings, missing, settings, engine, bar.update)


async def _paint_by_service(options: argparse.Namespace, captions: Sequence[str]) -> list[str]:
    if not options.paint_size_px:
        raise EvaluationError("--url needs --paint-size-px: a service does not tell its model's own size")
    settings = _settings(options, options.paint_size_px)
    async with open_client(options.url, api_key(options.api_key_env)) as client:
        model = options.model_id or await served_model(client, "paint")
        about = {"model": model, "sampler": "the service's", **asdict(settings)}
        paintings = Paintings(options.painted, captions, about)
        missing = paintings.missing(options.part)
        with _bar("painting", len(missing)) as bar:
            return await paint_by_service(
                paintings, missing, settings, client, options.concurrency, Retries(), bar.update
            )


def _settings(options: argparse.Namespace, size_px: int) -> PaintSettings:
    return PaintSettings(
        guidance_scale=options.guidance_scale,
        num_inference_steps=options.num_inference_steps,
        size_px=size_px,
        rerank=options.rerank,
        candidates=options.candidates,
        seed=options.seed,
        negative_prompt=options.negative_prompt,
    )


def _tell(report: dict[str, Any], options: argparse.Namespace) -> None:
    text = json.dumps(report, ensure_ascii=False, indent=1)
    if options.output:
        write_whole(options.output, (text + "\n").encode("utf-8"))
    print(text if options.json else as_text(report))


def as_text(report: dict[str, Any]) -> str:
    """The report for people."""
    captions, lines = report["captions"], []
    if report["fid"] is not None:
        real, extractor = report["real"], report["extractor"]
        lines.append(f"FID         {report['fid']:.2f}")
        lines.append(f"  real      {real['pictures']:,} pictures, {real['source']}")
        lines.append(f"  features  {extractor['features']} of {extractor['file']}, pictures at {report['size_px']} px")
        if min(real["pictures"], captions["painted"]) <= extractor["features"]:
            lines.append("  note      fewer pictures than features: the distance is too large, whatever the model")
    if report["clip_score"] is not None:
        lines.append(f"CLIP score  {report['clip_score']:.2f}")
        lines.append(f"  model     {report['clip']}")
    lines.append(f"captions    {captions['painted']:,} of {captions['count']:,} painted, {captions['file']}")
    if report["painting"]:
        names = ("model", "sampler", "num_inference_steps", "guidance_scale", "size_px", "rerank", "candidates", "seed")
        settings = [f"{name} {report['painting'][name]}" for name in names if name in report["painting"]]
        lines.append(f"painting    {', '.join(settings)}")
    else:
        lines.append("painting    with settings that are not known")
    if report["failed"]:
        lines.append(f"failed      {len(report['failed'])}{_listed(report['failed'])}")
    return "\n".join(lines)


def _listed(failures: Sequence[str]) -> str:
    return "".join(f"\n  {failure}" for failure in failures[:_NAMED_AT_MOST])


def _bar(what: str, total: int) -> "tqdm[Any]":
    return tqdm(desc=what, total=total, unit="picture", file=sys.stderr)


def _part(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise argparse.ArgumentTypeError(f"{text!r}; 1/8 to 8/8, say, are expected")
    return int(found[1]), int(found[2])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--captions", type=Path, required=True, metavar="FILE", help="one a line, or .jsonl with a field caption")
    add("--limit", type=positive, metavar="N", help="only the first N captions")
    add("--painted", type=Path, required=True, metavar="DIR", help="pictures by caption, 000000.png and so on")
    add("--real", type=Path, metavar="DIR|FILE", help="FID: real pictures, or their saved statistics")
    add("--save-real-statistics", type=Path, metavar="FILE", help="to be given as --real another time")
    add(
        "--extractor",
        type=Path,
        default=Path("checkpoints") / WEIGHTS_FILE,
        metavar="FILE",
        help="FID: Inception's weights or a TorchScript module (default: %(default)s)",
    )
    add("--clip", type=Path, metavar="DIR", help="CLIP score: folder of a CLIP, for Chinese captions a Chinese-CLIP")
    add("--size-px", type=positive, default=256, metavar="N", help="FID: side of all pictures (default: 256)")
    add("--device", default="cpu", help="of painting and measuring (default: cpu)")
    add("--batch-size", type=positive, default=32, metavar="N", help="pictures measured together (default: 32)")
    add(
        "--workers",
        type=natural,
        default=0,
        metavar="N",
        help="processes that decode pictures (default: 0, none extra)",
    )
    add("--json", action="store_true", help="JSON instead of the table")
    add("--output", type=Path, metavar="FILE", help="write the JSON there too")
    _add_painting(parser)


def _add_painting(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("painting", "of the captions that have no picture yet")
    add, defaults = group.add_argument, PaintJob(job_id="", prompt="")
    source = group.add_mutually_exclusive_group()
    source.add_argument("--checkpoint", type=Path, metavar="PATH", help="a Paint checkpoint, run here")
    source.add_argument("--url", metavar="URL", help="a running service")
    steps, scale = defaults.num_inference_steps, defaults.guidance_scale
    add("--num-inference-steps", type=positive, default=steps, metavar="N", help=f"(default: {steps})")
    add("--guidance-scale", type=float, default=scale, metavar="X", help=f"(default: {scale})")
    add("--paint-size-px", type=positive, metavar="N", help="side of the pictures (default: the checkpoint's own)")
    add("--negative-prompt", default="", metavar="TEXT")
    add("--rerank", choices=("on", "off"), default="off", help="keep the best of --candidates (default: off)")
    add("--candidates", type=positive, default=1, metavar="N", help="painted for each caption (default: 1)")
    add("--part", type=_part, default=(1, 1), metavar="K/N", help="only every N-th caption: one of N runs side by side")
    add("--seed", type=int, default=0, help="of the first caption (default: 0)")
    add("--model-id", metavar="NAME", help="in the report (default: the checkpoint's or the served model's)")
    add("--vocabulary", type=Path, metavar="FILE", help="vocab.txt (default: beside the checkpoint)")
    add("--vae", type=Path, metavar="DIR", help="(default: vae beside the checkpoint)")
    add("--reranker", type=Path, metavar="DIR", help="a Chinese-CLIP, for --rerank on with --checkpoint")
    add("--dtype", choices=("float32", "float16", "bfloat16"), default="float32")
    add("--concurrency", type=positive, default=4, metavar="N", help="requests at once, with --url (default: 4)")
    add("--api-key-env", default="", metavar="NAME", help="variable that holds the service's key")
