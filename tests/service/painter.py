"""The scripted engine, painting real pictures: each candidate is one colour, its seed's; RED_SEED's is what
image_input.colours has blocked.

A prompt is `paint N` (N steps) or anything else (one step); 🍎 is a word that it does not know. Previews come in the
first steps, as many as asked for.
"""

import io
from collections.abc import Iterator

from PIL import Image

from models.jobs import (
    Candidate,
    Engine,
    EngineConfig,
    EngineEvent,
    Generated,
    Job,
    JobRejected,
    ModelDescription,
    Observe,
    PaintJob,
    PaintResult,
    Progress,
)
from tests.service.engines import ScriptedEngine, write_log
from tests.service.image_input.colours import RED

UNKNOWN = "🍎"
RED_SEED = 255


class Painter(ScriptedEngine):
    def __init__(self, config: EngineConfig, observe: Observe) -> None:
        super().__init__(config, observe)
        self.description = ModelDescription(
            kind="paint", name="painter", fingerprint="test", picture_size_px=64, picture_multiple_px=8, untrained=True
        )

    def admit(self, job: Job) -> None:
        assert isinstance(job, PaintJob)
        if set(job.prompt.split()) == {UNKNOWN}:
            raise JobRejected("unknown_words", f"prompt: none of it is known, got {job.prompt!r}")
        super().admit(job)

    def _run(self, job: Job, verb: str, argument: str) -> Iterator[list[EngineEvent]]:
        assert isinstance(job, PaintJob)
        steps = int(argument) if verb == "paint" else 1
        for step in range(1, steps + 1):
            preview = colour_png(step, job.width_px, job.height_px) if step <= job.previews else b""
            yield [Progress(step=step, total_steps=steps, preview_png=preview)]
        candidates = [
            Candidate(png=colour_png(job.seed + index, job.width_px, job.height_px), seed=job.seed + index)
            for index in range(job.candidates)
        ]
        result = PaintResult(
            candidates=candidates,
            prompt_tokens=5,
            height_px=job.height_px,
            width_px=job.width_px,
            unknown_words=[UNKNOWN] if UNKNOWN in job.prompt else [],
            denoise_s=0.5,
        )
        yield [Generated(result=result)]


def colour_of(seed: int) -> tuple[int, int, int]:
    return RED if seed == RED_SEED else (seed % 256, 100, 200)


def colour_png(seed: int, width_px: int, height_px: int) -> bytes:
    target = io.BytesIO()
    Image.new("RGB", (width_px, height_px), colour_of(seed)).save(target, "PNG")
    return target.getvalue()


def create_engine(config: EngineConfig, observe: Observe) -> Engine:
    write_log("load", str(config.kind))
    return Painter(config, observe)
