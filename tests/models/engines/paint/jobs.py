"""Jobs that the tests of the paint engine share, and what comes of them."""

from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from models.engines.paint.engine import PaintEngine
from models.jobs import EngineEvent, Generated, PaintJob


def job(job_id: str = "job", **fields: Any) -> PaintJob:
    fields = {
        "prompt": "a red house",
        "num_inference_steps": 4,
        "height_px": 64,
        "width_px": 64,
        "seed": 100,
        "rerank": "off",
        **fields,
    }
    return PaintJob(job_id=job_id, **fields)


def finish(engine: PaintEngine) -> dict[str, list[EngineEvent]]:
    """Step until all jobs have ended; events by job."""
    events: dict[str, list[EngineEvent]] = {}
    for _ in range(200):
        if engine.capacity == engine.max_jobs:
            return events
        for job_id, event in engine.step():
            events.setdefault(job_id, []).append(event)
    raise AssertionError(f"jobs did not end: {events}")


def paint(engine: PaintEngine, **fields: Any) -> list[EngineEvent]:
    engine.admit(job(**fields))
    return finish(engine)["job"]


def result_of(events: list[EngineEvent]) -> Any:
    assert isinstance(events[-1], Generated), events[-1]
    return events[-1].result


def pixels(png: bytes) -> np.ndarray:
    with Image.open(BytesIO(png)) as picture:
        assert picture.format == "PNG" and picture.mode == "RGB"
        return np.asarray(picture).astype(int)


def assert_nearly_equal(png: bytes, expected: bytes) -> None:
    """Within one of 255: what a picture may differ by for what was painted beside it."""
    assert np.abs(pixels(png) - pixels(expected)).max() <= 1
