"""One side of `paint.py`, in a process of its own: paints what it is told to by lines, and says how long that took.

A line `{"requests": 8, "candidates": 1, "sampler": "ddpm", "steps": 50}` is answered by `{"seconds": 1.5}`. The engine
is that of the checkout in PYTHONPATH, which may be an older one.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import torch

from models.checkpoints.bundled import bundled_checkpoint
from models.engines.paint.engine import create_engine
from models.jobs import EngineConfig, Failed, Generated, PaintJob

PROMPTS = ("a red heart", "笑脸", "a black cat with a hat", "雨伞", "a green tree", "a slice of pizza", "月亮", "fire")

RANDOM = ("full", "tiny")  # checkpoints with random weights (random_engines.py)

Paint = Callable[[list[PaintJob]], None]


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("side", choices=("engine", "reference"))
    parser.add_argument("--checkpoint", default=str(bundled_checkpoint("paint")), help="a folder, full or tiny")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    config = EngineConfig(
        kind="paint",
        checkpoint=options.checkpoint,
        device=options.device,
        dtype=options.dtype,
        max_jobs=16,
    )
    paint, size_px = engine_side(config) if options.side == "engine" else reference_side(config)
    print(json.dumps({"size_px": size_px}), flush=True)
    for line in sys.stdin:
        load = json.loads(line)
        jobs = jobs_of(load, size_px)
        started_s = time.perf_counter()
        paint(jobs)
        print(json.dumps({"seconds": time.perf_counter() - started_s}), flush=True)
    return 0


def jobs_of(load: dict[str, Any], size_px: int) -> list[PaintJob]:
    other = {} if load["sampler"] == "ddpm" else {"sampler": load["sampler"]}  # an older checkout knows none
    return [
        PaintJob(
            job_id=str(number),
            prompt=PROMPTS[number % len(PROMPTS)],
            candidates=load["candidates"],
            rerank="off",
            num_inference_steps=load["steps"],
            height_px=size_px,
            width_px=size_px,
            seed=100 * number,
            **other,
        )
        for number in range(load["requests"])
    ]


def engine_side(config: EngineConfig) -> tuple[Paint, int]:
    if config.checkpoint in RANDOM:
        from benchmarks.random_engines import create_paint  # not there in an older checkout

        engine = create_paint(config, lambda name, value: None)
    else:
        engine = create_engine(config, lambda name, value: None)

    def paint(jobs: list[PaintJob]) -> None:
        for job in jobs:
            engine.admit(job)
        left = len(jobs)
        while left:
            for _, event in engine.step():
                if isinstance(event, Failed):
                    raise SystemExit(f"a job failed: {event.message}")
                left -= isinstance(event, Generated)

    return paint, engine.description.picture_size_px


def reference_side(config: EngineConfig) -> tuple[Paint, int]:
    from benchmarks.random_engines import load_random_paint
    from benchmarks.reference_paint import ReferencePainter
    from models.checkpoints.loading import load_paint

    if config.checkpoint in RANDOM:
        loaded = load_random_paint(msgspec.structs.replace(config, dtype="float32"))
    else:
        loaded = load_paint(Path(config.checkpoint), device=torch.device(config.device), dtype=torch.float32)
    painter = ReferencePainter(loaded, config.device)
    latent_px = 1 << (len(painter.loaded.vae.config.block_out_channels) - 1)

    def paint(jobs: list[PaintJob]) -> None:
        for job in jobs:
            painter.paint(job)

    return paint, int(painter.loaded.model.unet.config.sample_size) * latent_px


if __name__ == "__main__":
    raise SystemExit(main())
