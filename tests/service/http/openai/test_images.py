"""Answers of the paint model in OpenAI's shape. Over HTTP they are in ../routes/openai/test_images.py."""

import base64
import json
from collections.abc import AsyncIterator

import msgspec

from service.core.settings import Settings
from service.http.openai.images import image_events, images_response
from service.image_output.ai_labels import AILabels, Origin
from service.jobs.answers import Outcome, PaintedPicture, PaintResponse, PaintUsage
from service.jobs.screened_stream import DenoisingStep, Part, Text
from service.queue.record import Ending
from tests.service.painter import colour_png

ANSWER = PaintResponse(
    id="paint-1",
    created=5,
    model="m",
    data=[PaintedPicture(b64_json=b"png", seed=7, score=0.5)],
    size="64x64",
    output_format="png",
    usage=PaintUsage(input_tokens=3, output_tokens=0, total_tokens=3),
)


def test_pictures_are_told_here_or_at_their_addresses() -> None:
    here = msgspec.json.decode(msgspec.json.encode(images_response(ANSWER, [])))
    there = msgspec.json.decode(msgspec.json.encode(images_response(ANSWER, ["https://x.org/1"])))
    assert here["data"] == [{"b64_json": "cG5n"}] and there["data"] == [{"url": "https://x.org/1"}]
    assert here["usage"]["input_tokens_details"] == {"text_tokens": 3, "image_tokens": 0}
    assert (here["viscpm"]["seeds"], here["viscpm"]["scores"], here["viscpm"]["id"]) == ([7], [0.5], "paint-1")


class Parts:
    """A job's stream that says what it is told."""

    def __init__(self, *parts: Part) -> None:
        self._parts = parts

    async def __aenter__(self) -> "Parts":
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def __aiter__(self) -> AsyncIterator[Part]:
        for part in self._parts:
            yield part


async def test_previews_tell_their_own_size_and_steps_without_one_are_passed_over() -> None:
    labels = AILabels(Settings(), "test")
    preview = DenoisingStep(2, 3, colour_png(1, 24, 16))
    stream = Parts(DenoisingStep(1, 3), preview, Text("x", 0), DenoisingStep(3, 3), Outcome(Ending("done"), ANSWER))
    try:
        origin = Origin("paint-1", 5)
        sent = [one async for one in image_events(stream, origin, labels, [])]  # type: ignore[arg-type]
    finally:
        labels.close()
    names = [one.split(b"\n")[0].decode() for one in sent]
    assert names == ["event: image_generation.partial_image", "event: image_generation.completed"]
    partial, completed = (json.loads(one.split(b"data: ")[1]) for one in sent)
    assert (partial["size"], partial["partial_image_index"], partial["created_at"]) == ("24x16", 0, 5)
    assert base64.b64decode(partial["b64_json"]).startswith(b"\x89PNG")
    assert (completed["size"], completed["viscpm"]["seeds"], completed["usage"]["total_tokens"]) == ("64x64", [7], 3)
