"""Chat and paint engines of tiny random networks, by themselves or in turns on one device, and jobs for both."""

import io
from pathlib import Path
from typing import Any

from PIL import Image, ImageChops

from models.engines.chat.engine import create_engine as create_chat
from models.engines.paint.engine import create_engine as create_paint
from models.jobs import (
    ChatGeneration,
    ChatJob,
    ChatResult,
    DeviceTurns,
    EngineConfig,
    EngineEvent,
    Failed,
    Generated,
    Job,
    Kind,
    PaintJob,
    PaintResult,
)

KV_BYTES = 1 << 20
PIXELS = bytes(range(256)) * 588  # 224 x 224
JOBS: dict[Kind, list[Job]] = {
    "chat": [
        ChatJob(
            job_id=f"chat{number}",
            question="What is in the picture? " * (number + 1),
            pixels=PIXELS,
            image_size_px=224,
            image_key=f"picture{number % 2}",
            generation=ChatGeneration(max_new_tokens=30 + number, num_beams=number % 3 + 1),
        )
        for number in range(4)
    ],
    "paint": [
        PaintJob(
            job_id=f"paint{number}",
            prompt="a red house" * (number + 1),
            num_inference_steps=9 + number,
            height_px=64,
            width_px=64,
            candidates=number % 2 + 1,
            rerank="off",
            seed=number,
            sampler="dpm++" if number % 2 else "ddpm",
        )
        for number in range(4)
    ],
}


class Side:
    """One worker's engine, what it observed, and its jobs' endings."""

    def __init__(self, kind: Kind, checkpoints: Path, turns: DeviceTurns | None, device: str = "cpu") -> None:
        self.observed: list[tuple[str, float]] = []
        config = EngineConfig(kind=kind, checkpoint=str(checkpoints / kind), max_jobs=4, kv_bytes=KV_BYTES, turns=turns)
        create = create_chat if kind == "chat" else create_paint
        self.engine: Any = create(config, lambda name, value: self.observed.append((name, value)))
        self.endings: dict[str, EngineEvent] = {}
        self.steps = 0  # that gave something

    def step(self) -> list[tuple[str, EngineEvent]]:
        events: list[tuple[str, EngineEvent]] = self.engine.step()
        self.steps += bool(events)
        self.endings |= {job_id: event for job_id, event in events if isinstance(event, Generated | Failed)}
        return events

    def values(self, name: str) -> list[float]:
        return [value for told, value in self.observed if told == name]

    def answers(self) -> dict[str, Any]:
        return {job_id: answer_of(event) for job_id, event in self.endings.items()}


def answer_of(event: EngineEvent) -> Any:
    assert isinstance(event, Generated), event
    if isinstance(event.result, ChatResult):
        return event.result.token_ids
    assert isinstance(event.result, PaintResult)
    return [candidate.png for candidate in event.result.candidates]


def check_same(answers: dict[str, Any], expected: dict[str, Any]) -> None:
    """Tokens are equal; pictures are within one step of a colour, whoever was painted beside them."""
    assert answers.keys() == expected.keys()
    for job_id, answer in answers.items():
        if not isinstance(answer[0], bytes):
            assert answer == expected[job_id], job_id
            continue
        for png, other in zip(answer, expected[job_id], strict=True):
            difference = ImageChops.difference(Image.open(io.BytesIO(png)), Image.open(io.BytesIO(other)))
            assert max(most for _, most in difference.getextrema()) <= 1, job_id
