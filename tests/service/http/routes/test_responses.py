"""Answers as HTTP: what each says beside its body, and streams taken up in the middle of a piece."""

import json
from collections.abc import AsyncIterator, Iterable

import pytest

from service.core.errors import ContentRefused
from service.core.settings import Settings
from service.http.routes.responses import accepted, answered, chat_events, paint_events, picture
from service.http.schemas.chat import ChatDelta
from service.image_output.ai_labels import AILabels, Origin
from service.jobs.answers import ChatResponse, ChatUsage, Outcome, PaintedPicture, PaintResponse, PaintUsage
from service.jobs.screened_stream import DenoisingStep, Part, Text
from service.queue.record import Ending
from tests.service.jobs.rig import png
from tests.service.web import sse_events

BEGIN = ChatDelta(id="chat-1", created=5, model="m", conversation_id="conv-1", delta="", offset=0)


class Parts:
    """A job's stream that says what it is told; counts who left it."""

    def __init__(self, parts: Iterable[Part]) -> None:
        self._parts = parts
        self.left = 0

    async def __aenter__(self) -> "Parts":
        return self

    async def __aexit__(self, *_: object) -> None:
        self.left += 1

    async def __aiter__(self) -> AsyncIterator[Part]:
        for part in self._parts:
            yield part


def answer(text: str) -> ChatResponse:
    usage = ChatUsage(prompt_tokens=1, image_tokens=0, completion_tokens=2, total_tokens=3)
    return ChatResponse(
        id="chat-1",
        created=5,
        model="m",
        conversation_id="conv-1",
        answer=text,
        finish_reason="stop",
        usage=usage,
        seed=7,
    )


def pictures(*scores: float | None) -> PaintResponse:
    return PaintResponse(
        id="paint-1",
        created=5,
        model="m",
        data=[PaintedPicture(b64_json=b"png%d" % seed, seed=seed, score=score) for seed, score in enumerate(scores)],
        size="8x8",
        output_format="webp",
        usage=PaintUsage(input_tokens=1, output_tokens=0, total_tokens=1),
    )


async def chat_stream(*parts: Part, after_chars: int = 0) -> tuple[list[str], list[tuple[str, object]]]:
    """(event ids, events) of a stream."""
    stream = Parts(parts)
    chunks = [chunk async for chunk in chat_events(stream, BEGIN, after_chars)]  # type: ignore[arg-type]
    assert stream.left == 1
    text = b"".join(chunks).decode()
    return [line[4:] for line in text.splitlines() if line.startswith("id: ")], sse_events(text)


def done(text: str) -> Outcome:
    return Outcome(Ending("done"), answer(text))


async def test_ids_count_characters_not_bytes() -> None:
    ids, events = await chat_stream(Text("你好", 0), Text(", 世界", 2), done("你好, 世界"))
    assert ids == ["0", "2", "6", "6"]
    assert [(data["delta"], data["offset"]) for _, data in events[:-1]] == [("", 0), ("你好", 0), (", 世界", 2)]  # type: ignore[index]
    assert events[-1][1]["object"] == "chat.answer" and events[-1][1]["answer"] == "你好, 世界"  # type: ignore[index]


@pytest.mark.parametrize("after_chars", range(8))
async def test_a_stream_goes_on_where_it_was_left(after_chars: int) -> None:
    ids, events = await chat_stream(Text("abc", 0), Text("def", 3), done("abcdef"), after_chars=after_chars)
    pieces = [data for _, data in events if data["object"] == "chat.delta"]  # type: ignore[index]
    assert ids[0] == str(after_chars)
    assert "".join(data["delta"] for data in pieces) == "abcdef"[after_chars:]  # type: ignore[index]
    assert all("abcdef"[data["offset"] :].startswith(data["delta"]) for data in pieces)  # type: ignore[index]


async def test_what_was_not_streamed_comes_before_the_whole_answer() -> None:
    _, events = await chat_stream(Text("ab", 0), done("abcd"))
    assert [data.get("delta") for _, data in events] == ["", "ab", "cd", None]  # type: ignore[attr-defined]
    _, late = await chat_stream(done("abcd"), after_chars=3)
    assert [data.get("delta") for _, data in late] == ["", "d", None]  # type: ignore[attr-defined]


async def test_a_job_without_an_answer_ends_its_stream_with_the_error() -> None:
    stream = Parts([Text("ab", 0), Outcome(Ending("refused", "content_policy_violation", "not here"))])
    with pytest.raises(ContentRefused, match="not here"):
        async for _ in chat_events(stream, BEGIN):  # type: ignore[arg-type]
            pass
    assert stream.left == 1


async def test_painting_counts_previews_not_steps() -> None:
    labels = AILabels(Settings(), "test")
    parts = [
        DenoisingStep(1, 3),
        DenoisingStep(2, 3, png("two")),
        DenoisingStep(3, 3, png("three")),
        Outcome(Ending("done"), pictures(0.5, 0.25)),
    ]
    stream = Parts(parts)
    events = paint_events(stream, Origin("paint-1", 5), labels)  # type: ignore[arg-type]
    told = sse_events(b"".join([chunk async for chunk in events]).decode())
    labels.close()
    names = [name.removeprefix("image_generation.") for name, _ in told]
    assert names == ["progress", "progress", "partial_image", "progress", "partial_image", "completed", "completed"]
    assert [data["partial_image_index"] for name, data in told if "partial" in name] == [0, 1]
    completed = [data for name, data in told if "completed" in name]
    assert [(data["index"], data["seed"], data["score"]) for data in completed] == [(0, 0, 0.5), (1, 1, 0.25)]
    assert all("data" not in data and data["id"] == "paint-1" and data["type"] == told[-1][0] for data in completed)


async def test_a_painting_goes_on_after_each_of_its_events() -> None:
    labels = AILabels(Settings(), "test")
    parts = [DenoisingStep(1, 2, png("one")), DenoisingStep(2, 2), Outcome(Ending("done"), pictures(None, None))]

    async def chunks(after_id: int) -> list[bytes]:
        events = paint_events(Parts(parts), Origin("paint-1", 5), labels, (), after_id)  # type: ignore[arg-type]
        return [chunk async for chunk in events]

    whole = await chunks(0)
    ids = [int(chunk.split(b"id: ")[1].split(b"\n")[0]) for chunk in whole]
    assert ids == [1, 2, 3, 5, 6], "two for each step, whether it has a preview or not"
    for number, event_id in enumerate(ids, start=1):
        assert await chunks(event_id) == whole[number:]
    labels.close()


def test_the_picture_itself_tells_job_seed_and_score() -> None:
    response = picture(pictures(0.123456789, 0.1))
    assert response.media_type == "image/webp" and response.body == b"png0"
    assert (response.headers["x-job-id"], response.headers["x-seed"]) == ("paint-1", "0")
    assert response.headers["x-score"] == "0.123457"
    assert "x-score" not in picture(pictures(None)).headers


def test_an_accepted_job_says_where_to_ask() -> None:
    response = accepted("paint-1", "paint", 5, "/under")
    assert response.status_code == 202
    assert response.headers["location"] == "/under/jobs/paint-1"
    assert response.headers["preference-applied"] == "respond-async"
    told = json.loads(bytes(response.body))
    assert (told["id"], told["kind"], told["state"], told["answer"]) == ("paint-1", "paint", "queued", None)


def test_bytes_of_pictures_are_base64_in_json() -> None:
    body = json.loads(bytes(answered(pictures(None)).body))
    assert body["data"][0] == {"b64_json": "cG5nMA==", "seed": 0, "score": None}
    assert body["object"] == "paint.answer"
