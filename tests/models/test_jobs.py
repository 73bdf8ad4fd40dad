"""What crosses the bus: every message there and back, in few bytes, and refused where it is another version's."""

import math
import sys
from dataclasses import FrozenInstanceError
from subprocess import run
from typing import Any

import msgspec
import pytest

from models.jobs import (
    BUS_VERSION,
    Candidate,
    ChatGeneration,
    ChatJob,
    ChatResult,
    Delta,
    Event,
    Failed,
    Generated,
    ImageEmbeddingsComputed,
    Job,
    JobRejected,
    ModelDescription,
    PaintJob,
    PaintResult,
    Progress,
    SafetyJob,
    SafetyResult,
    ScreenFinding,
    Turn,
    VersionMismatch,
    decode_description,
    decode_event,
    decode_job,
    encode,
)
from models.networks.cpm_bee.tokenizer import escape, unescape

CHAT_RESULT = ChatResult(
    answer="a < b",
    answer_escaped="a << b",
    finish_reason="stop",
    prompt_tokens=80,
    image_tokens=64,
    completion_tokens=3,
    token_ids=[5, 6, 7],
)
JOBS: list[Job] = [
    ChatJob(job_id="1", question="图里有什么？"),
    ChatJob(
        job_id="2",
        question="q",
        history=[Turn(question="a<b", answer="c<<d")],
        pixels=bytes(range(256)) * 3,
        image_size_px=16,
        image_key="salt:digest",
        pixels_key="pixels:1",
        generation=ChatGeneration(num_beams=1, do_sample=True, repetition_window=5, max_new_tokens=7),
        seed=2**63 - 1,
        stream=True,
        strict_length=True,
        raw_text=True,
    ),
    PaintJob(job_id="3", prompt="一只猫", negative_prompt="x", candidates=4, rerank="on", seed=2**40, language="en"),
    SafetyJob(job_id="4", content_key="k", pixels=b"\0\1\2", width_px=1, height_px=1),
    SafetyJob(job_id="5", content_key="k", text="某事"),
]
EVENTS: list[Event] = [
    Delta(token_ids=[1, 86583], text="🐱", offset_chars=0),
    Progress(step=3, total_steps=50, preview_png=b"\x89PNG"),
    Generated(result=CHAT_RESULT),
    Generated(
        result=PaintResult(
            candidates=[Candidate(png=b"\x89", seed=1, score=0.25), Candidate(png=b"", seed=2)],
            prompt_tokens=9,
            height_px=512,
            width_px=256,
        )
    ),
    Generated(result=SafetyResult(findings=[ScreenFinding(screen="s", scores={"nudity": 0.5})], fingerprint="f")),
    Failed(code="out_of_memory", message="too large"),
]


@pytest.mark.parametrize("job", JOBS, ids=lambda job: f"{type(job).__name__} {job.job_id}")
def test_a_job_comes_back_as_it_was_sent(job: Job) -> None:
    assert decode_job(encode(job)) == job


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_comes_back_as_it_was_sent(event: Event) -> None:
    assert decode_event(encode(event)) == event


def test_a_description_comes_back_as_it_was_sent() -> None:
    description = ModelDescription(
        kind="paint", name="viscpm", fingerprint="f" * 64, rerankers={"zh": "clip"}, screens=["a"], parameters=10**10
    )
    assert decode_description(encode(description)) == description


def test_the_version_comes_first_and_another_is_refused_in_one_line() -> None:
    data = encode(JOBS[0])
    assert data[0] == BUS_VERSION
    for decode in (decode_job, decode_event, decode_description):
        with pytest.raises(VersionMismatch, match=f"^message of bus version 9, this process speaks {BUS_VERSION}$"):
            decode(b"\x09" + data[1:])
        with pytest.raises(VersionMismatch, match=f"^message of bus version none, this process speaks {BUS_VERSION}$"):
            decode(b"")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (encode(EVENTS[0]), "Invalid value 'delta'"),
        (encode(JOBS[0])[:-3], "truncated"),
        (bytes([BUS_VERSION]), "truncated"),
        (bytes([BUS_VERSION]) + msgspec.msgpack.encode({"type": "chat", "job_id": "1"}), "missing required field"),
        (
            bytes([BUS_VERSION]) + msgspec.msgpack.encode({"type": "chat", "job_id": 1, "question": "q"}),
            "Expected `str`",
        ),
        (
            bytes([BUS_VERSION]) + msgspec.msgpack.encode({"job_id": "1", "question": "q"}),
            "missing required field `type`",
        ),
    ],
)
def test_bytes_that_are_no_job_are_refused(data: bytes, said: str) -> None:
    with pytest.raises(msgspec.DecodeError, match=said):
        decode_job(data)


def test_a_job_is_no_event() -> None:
    with pytest.raises(msgspec.DecodeError, match="Invalid value 'chat'"):
        decode_event(encode(JOBS[0]))


def test_image_embeddings_never_reach_an_api_process() -> None:
    """They stay in the worker: as an event they are refused where events are read."""
    data = encode(ImageEmbeddingsComputed(key="k", data=b"\0"))  # type: ignore[arg-type]
    with pytest.raises(msgspec.DecodeError, match="Invalid value 'state_computed'"):
        decode_event(data)


def test_defaults_take_no_bytes() -> None:
    """Most of a job is its defaults, and a stream is thousands of events."""
    sent: dict[str, Any] = msgspec.msgpack.decode(encode(JOBS[0])[1:])
    assert sent == {"type": "chat", "job_id": "1", "question": "图里有什么？"}
    assert len(encode(Progress(step=1, total_steps=50))) < 40


def test_a_field_of_a_newer_process_of_the_same_version_is_ignored() -> None:
    data = msgspec.msgpack.encode({"type": "paint", "job_id": "1", "prompt": "p", "mood": "new"})
    assert decode_job(bytes([BUS_VERSION]) + data) == PaintJob(job_id="1", prompt="p")


def test_messages_cannot_be_changed() -> None:
    with pytest.raises((AttributeError, FrozenInstanceError)):
        JOBS[0].job_id = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("fields", "has_image"),
    [({}, False), ({"image_size_px": 224}, True), ({"pixels": b"\0"}, True), ({"image_embeddings": b"\0"}, True)],
)
def test_a_job_has_a_picture_wherever_its_pixels_travel(fields: dict[str, Any], has_image: bool) -> None:
    assert ChatJob(job_id="1", question="q", **fields).has_image is has_image
    assert not ChatJob(job_id="1", question="q", image_key="k", pixels_key="p").has_image


def test_generation_is_as_the_release_has_it() -> None:
    """`max_length` 512 of the reference is 514 ids with the final eos (SPEC §7)."""
    defaults = ChatGeneration()
    assert (defaults.max_new_tokens, defaults.num_beams, defaults.max_input_tokens) == (514, 3, 3000)
    assert (defaults.repetition_penalty, defaults.length_penalty, defaults.temperature) == (1.1, 3.0, 0.7)
    assert not defaults.do_sample and defaults.repetition_window is None
    paint = PaintJob(job_id="1", prompt="p")
    assert (paint.num_inference_steps, paint.guidance_scale, paint.height_px, paint.width_px) == (50, 7.5, 512, 512)


def test_values_that_json_lacks_survive() -> None:
    """A score may be infinite where an engine slipped; the screens and the API have to see that it is."""
    finding = Generated(result=SafetyResult(findings=[ScreenFinding(screen="s", scores={"x": math.inf})]))
    assert decode_event(encode(finding)) == finding


def test_a_rejection_tells_its_code_and_message() -> None:
    error = JobRejected("invalid_request", "num_beams is 0; at least 1 is allowed")
    assert (error.code, error.message, str(error)) == ("invalid_request", error.message, error.message)


def test_jobs_are_read_without_torch() -> None:
    """The API role, which has none, imports them."""
    code = "import sys, models.jobs; print(sorted({'torch', 'numpy', 'diffusers'} & set(sys.modules)))"
    assert run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_an_answer_as_it_is_displayed_is_escaped_as_the_tokenizer_does() -> None:
    for answer in ("a < b", "<eos>", "<<", "1 <2> 3", ""):
        turn = Turn.of_plain("q", answer)
        assert turn.answer == escape(answer) and turn.plain_answer == unescape(turn.answer) == answer
