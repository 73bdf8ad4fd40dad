"""What fewer steps and other samplers cost in quality: emoji painted by name, recognised by an independent classifier.

The same names from the same seeds with each sampler, beside the model's own with 50 steps: the share that the
classifier of `viscpm evaluate emoji` recognises, the time of one request among eight, and a sheet. Samplers that draw
no noise land elsewhere than the ancestral one, so pictures are not compared point by point.
"""

import argparse
import json
import time
from io import BytesIO
from pathlib import Path

import msgspec
import numpy as np
from PIL import Image, ImageDraw

from models.checkpoints.bundled import bundled_checkpoint
from models.datasets.examples import PixelArray
from models.emoji.names import EmojiName, bundled_names
from models.engines.paint.engine import PaintEngine, create_engine
from models.evaluation.emoji.classifier import load_classifier
from models.jobs import EngineConfig, Generated, PaintJob, PaintResult, SamplerName

# Sampler, steps, and of how many steps one runs the whole UNet (VISCPM_PAINT_STEP_CACHE)
RUNS: tuple[tuple[SamplerName, int, int], ...] = (
    ("ddpm", 50, 1),
    ("ddpm", 50, 2),
    ("ddpm", 50, 3),
    ("ddpm", 25, 1),
    ("dpm++", 25, 1),
    ("dpm++", 25, 2),
    ("dpm++", 20, 1),
    ("ddim", 25, 1),
    ("euler", 25, 1),
)
AT_ONCE = 8
SHEET_COLUMNS = 12
LABEL_PX = 90


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--names", type=int, default=200, metavar="N", help="evenly from the bundled list")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--sheet", type=Path, metavar="FILE", help="PNG of the first names")
    options = parser.parse_args()
    config = EngineConfig(
        kind="paint",
        checkpoint=str(bundled_checkpoint("paint")),
        device=options.device,
        dtype=options.dtype,
        max_jobs=AT_ONCE,
    )
    engines = {
        full_every: create_engine(msgspec.structs.replace(config, full_every=full_every), lambda name, value: None)
        for full_every in sorted({full_every for _, _, full_every in RUNS})
    }
    classifier = load_classifier()
    everything = bundled_names()
    names = [everything[place * len(everything) // options.names] for place in range(options.names)]

    rows, painted = [], {}
    print(f"{'sampler':<8}{'steps':>6}{'full every':>12}{'recognised':>12}{'pictures/s':>12}")
    for sampler, steps, full_every in RUNS:
        started_s = time.perf_counter()
        pictures = paint(engines[full_every], names, sampler, steps, options.seed)
        elapsed_s = time.perf_counter() - started_s
        codes = classifier.recognise(pictures)
        recognised = float(np.mean([code == name.code for code, name in zip(codes, names, strict=True)]))
        painted[f"{sampler} {steps}" + (f" / {full_every}" if full_every > 1 else "")] = pictures
        rows.append(
            {
                "sampler": sampler,
                "steps": steps,
                "full_every": full_every,
                "recognised": round(recognised, 4),
                "pictures_per_s": round(len(names) / elapsed_s, 2),
            }
        )
        print(f"{sampler:<8}{steps:>6}{full_every:>12}{recognised:>12.3f}{rows[-1]['pictures_per_s']:>12}", flush=True)
    if options.sheet is not None:
        write_sheet(options.sheet, painted)
    print(json.dumps({"benchmark": "samplers", "names": len(names), "seed": options.seed, "rows": rows}))
    return 0


def paint(engine: PaintEngine, names: list[EmojiName], sampler: SamplerName, steps: int, seed: int) -> list[PixelArray]:
    """A picture of each name, in order, as many at once as the engine takes."""
    size_px = engine.description.picture_size_px
    waiting = [
        PaintJob(
            job_id=str(place),
            prompt=name.en,
            num_inference_steps=steps,
            height_px=size_px,
            width_px=size_px,
            seed=seed + place,
            sampler=sampler,
        )
        for place, name in enumerate(names)
    ]
    waiting.reverse()
    pictures: dict[int, PixelArray] = {}
    while len(pictures) < len(names):
        while waiting and engine.capacity:
            engine.admit(waiting.pop())
        for job_id, event in engine.step():
            if isinstance(event, Generated) and isinstance(event.result, PaintResult):
                with Image.open(BytesIO(event.result.candidates[0].png)) as png:
                    pictures[int(job_id)] = np.asarray(png)
    return [pictures[place] for place in range(len(names))]


def write_sheet(file: Path, painted: dict[str, list[PixelArray]]) -> None:
    """A row for each sampler, the same names in each."""
    side_px = next(iter(painted.values()))[0].shape[0]
    sheet = Image.new("RGB", (LABEL_PX + SHEET_COLUMNS * side_px, len(painted) * side_px), "white")
    draw = ImageDraw.Draw(sheet)
    for line, (label, pictures) in enumerate(painted.items()):
        draw.text((6, line * side_px + side_px // 2 - 6), label, fill="black")
        stride = max(1, len(pictures) // SHEET_COLUMNS)
        for column, picture in enumerate(pictures[::stride][:SHEET_COLUMNS]):
            sheet.paste(Image.fromarray(picture), (LABEL_PX + column * side_px, line * side_px))
    sheet.save(file)


if __name__ == "__main__":
    raise SystemExit(main())
