"""Answers as Redis keeps them, and what a job ended with instead of one."""

import math
from typing import Any

import msgspec
import pytest

from service.core.errors import (
    Cancelled,
    ContentRefused,
    ConversationBusy,
    Deadline,
    InvalidImage,
    JobFailed,
    ScreenUnavailable,
    ServiceError,
)
from service.jobs.answers import (
    CONTENT_FILTER,
    ChatResponse,
    ChatTimings,
    ChatUsage,
    Outcome,
    PaintedPicture,
    PaintResponse,
    PaintTimings,
    PaintUsage,
    answer_of,
    encode_answer,
    encode_verdicts,
    milliseconds,
    outcome_of,
    told_verdicts,
)
from service.queue.record import Ending

VERDICTS = {
    "input": {
        "type": "moderation_results",
        "model": "rules+open-nsfw",
        "results": [{"flagged": True, "category_scores": {"hate": 0.5}}],
    },
    "output": {"type": "moderation_results", "model": "rules", "results": [{"flagged": False}]},
}
SUMMARY = {"flagged": True, "screens": ["rules", "open-nsfw"]}
CHAT = ChatResponse(
    id="chat-1",
    created=5,
    model="m",
    conversation_id="conv-1",
    answer="你好 <b>",
    finish_reason="length",
    usage=ChatUsage(prompt_tokens=1, image_tokens=0, completion_tokens=2, total_tokens=3),
    seed=2**53 - 1,
    dropped_turns=1,
    vision_cached=True,
    untrained=True,
    timings=ChatTimings(prefill_ms=0.5, decode_ms=1.25),
    moderation=VERDICTS,
)
PAINT = PaintResponse(
    id="paint-1",
    created=5,
    model="m",
    data=[PaintedPicture(b64_json=bytes(range(256)), seed=7, score=0.25), PaintedPicture(b64_json=b"", seed=8)],
    size="8x16",
    output_format="jpeg",
    usage=PaintUsage(input_tokens=1, output_tokens=0, total_tokens=1),
    timings=PaintTimings(denoise_ms=1.0, decode_ms=2.0),
)


@pytest.mark.parametrize(("answer", "kind"), [(CHAT, "chat"), (PAINT, "paint")])
def test_an_answer_comes_back_from_redis_as_it_was(answer: Any, kind: Any) -> None:
    ending = Ending("done", body=encode_answer(answer))
    outcome = outcome_of(ending, kind)
    assert outcome == Outcome(ending, answer) and type(outcome.answer) is type(answer)


def test_an_answer_tells_a_summary_of_the_verdicts_and_the_whole_on_demand() -> None:
    outcome = outcome_of(Ending("done", body=encode_answer(CHAT)), "chat")
    assert answer_of(outcome, "chat-1").moderation == SUMMARY
    assert answer_of(outcome, "chat-1", ["moderation"]) == msgspec.structs.replace(CHAT, moderation=SUMMARY | VERDICTS)
    assert outcome.answer == CHAT, "others follow the same job"
    assert answer_of(outcome_of(Ending("done", body=encode_answer(PAINT)), "paint"), "any") == PAINT, "nothing judged"
    assert told_verdicts({"output": VERDICTS["output"]}, is_whole=False) == {"flagged": False, "screens": ["rules"]}


def test_json_and_redis_tell_the_same_and_neither_repeats_a_pictures_base64() -> None:
    told = msgspec.json.decode(msgspec.json.encode(PAINT))
    kept = msgspec.msgpack.decode(encode_answer(PAINT))
    assert told.keys() == kept.keys() and told["object"] == "paint.answer"
    assert kept["data"][0]["b64_json"] == bytes(range(256)), "bytes in Redis: base64 is HTTP's"
    assert told["data"][0]["b64_json"].startswith("AAEC")


def test_a_filtered_answer_is_an_answer_and_a_refused_picture_is_none() -> None:
    filtered = msgspec.structs.replace(CHAT, answer="", finish_reason="content_filter")
    outcome = outcome_of(Ending("refused", CONTENT_FILTER, "not here", encode_answer(filtered)), "chat")
    assert answer_of(outcome, "chat-1") == msgspec.structs.replace(filtered, moderation=SUMMARY | VERDICTS)
    body = encode_verdicts(VERDICTS)
    refused = outcome_of(Ending("refused", "content_policy_violation", "not here", body), "paint")
    assert refused.answer is None
    with pytest.raises(ContentRefused, match="not here") as error:
        answer_of(refused, "paint-1")
    assert error.value.extra == {"moderation": SUMMARY | VERDICTS}


def test_nothing_is_decoded_of_a_screening() -> None:
    assert outcome_of(Ending("done", body=b"no answer"), "safety").answer is None


@pytest.mark.parametrize(
    ("ending", "kind", "message"),
    [
        (Ending("refused", "content_policy_violation", "not here"), ContentRefused, "not here"),
        (Ending("refused", "invalid_image", "no picture"), InvalidImage, "no picture"),
        (Ending("refused", "conversation_busy", "another turn"), ConversationBusy, "another turn"),
        (Ending("cancelled", "deleted"), Cancelled, r"job chat-1 was cancelled \(deleted\)"),
        (Ending("cancelled", Deadline.code, "too late"), Deadline, "too late"),
        (Ending("failed", "safety_unavailable", "no screen"), ScreenUnavailable, "no screen"),
        (Ending("failed", "generation_failed", "NaN"), JobFailed, "NaN"),
        (Ending("failed", "", "nobody knows"), JobFailed, "nobody knows"),
    ],
)
def test_an_ending_without_an_answer_is_an_error(ending: Ending, kind: type[ServiceError], message: str) -> None:
    with pytest.raises(kind, match=message) as error:
        answer_of(outcome_of(ending, "chat"), "chat-1")
    assert type(error.value) is kind
    assert error.value.extra.get("job_id") == ("chat-1" if error.value.status >= 500 else None)


def test_times_are_finite_milliseconds() -> None:
    assert milliseconds(0.0123456) == 12.346
    assert [milliseconds(value) for value in (math.nan, math.inf, -math.inf)] == [0.0] * 3
