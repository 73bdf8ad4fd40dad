"""What a job's finalizer knows of its request, and what the gate is shown."""

from typing import Any

import msgspec
import pytest

from models.jobs import ChatJob, ChatResult, PaintJob, PaintResult, Turn
from safety.contents import Inputs, Output
from safety.verdict import Picture, Verdict
from service.jobs.intents import (
    ChatIntent,
    PaintIntent,
    SafetyIntent,
    decode_intent,
    inputs_of,
    moderation_of,
    output_of,
    with_model,
)
from service.queue.conversation_record import ConversationMeta
from tests.service.jobs.rig import answered, chat_intent, paint_intent, painted


@pytest.mark.parametrize(
    "intent",
    [
        ChatIntent("t", 1, "m", "conv-1", "问题?", 7),
        ChatIntent(
            "t",
            1,
            "m",
            "conv-1",
            "q",
            7,
            ConversationMeta(1, "m", "f", "ab", 224),
            True,
            {"flagged": False},
            gone_turns=3,
        ),
        PaintIntent("t", 1, "m", 2, "webp", 80, 7, True, "f", "req-1", "en", {"flagged": True}),
        SafetyIntent(),
    ],
)
def test_an_intent_comes_back_as_it_was_queued(intent: Any) -> None:
    back = decode_intent(msgspec.msgpack.encode(intent))
    assert back == intent and type(back) is type(intent)


@pytest.mark.parametrize("data", [b"", b"\xc1", msgspec.msgpack.encode({"type": "sing"}), msgspec.msgpack.encode([1])])
def test_what_is_no_intent_is_refused(data: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_intent(data)


def test_the_gate_is_shown_every_text_and_the_picture() -> None:
    asked, wanted = chat_intent(), paint_intent()
    job = ChatJob(job_id="a", question="q", pixels=b"rgb" * 4, image_size_px=2, image_key="k")
    assert inputs_of(job, asked) == Inputs([("question", "q")], Picture(b"rgb" * 4, "rgb", 2, 2))
    later = ChatJob(job_id="a", question="q", image_size_px=2, image_key="k", pixels_key="conversation:t:1:pixels")
    assert inputs_of(later, asked) == Inputs([("question", "q")]), "its picture was judged when it came in"
    both = PaintJob(job_id="a", prompt="p", negative_prompt="n")
    assert inputs_of(both, wanted) == Inputs([("prompt", "p"), ("negative_prompt", "n")])
    assert inputs_of(PaintJob(job_id="a", prompt="p"), wanted) == Inputs([("prompt", "p")])


def test_the_gate_is_shown_the_turns_that_a_request_brings_and_not_those_that_were_kept() -> None:
    history = [Turn(question="kept", answer="kept"), Turn.of_plain("", "a < b"), Turn.of_plain("brought", "")]
    job = ChatJob(job_id="a", question="q", history=history)
    asked = msgspec.structs.replace(chat_intent(), brought_turns=2)
    assert inputs_of(job, asked).texts == [("question", "q"), ("answer", "a < b"), ("question", "brought")]
    assert inputs_of(job, chat_intent()).texts == [("question", "q")]


def test_the_gate_is_shown_the_answer_or_every_candidate() -> None:
    told, made = answered("yes").result, painted("a", "b", "c").result
    assert isinstance(told, ChatResult) and isinstance(made, PaintResult)
    assert output_of(told, chat_intent()) == Output(answer="yes")
    english = msgspec.structs.replace(paint_intent(), language="en")
    assert output_of(made, english) == Output(
        candidates=tuple(one.png for one in made.candidates), wanted=2, language="en"
    )


def test_verdicts_name_each_screen_once() -> None:
    verdicts = [
        Verdict("question", "pass", {"hate": 0.1}, "rules+prompt-checker"),
        Verdict("input_image", "block", {"sexual": 0.9}, "open-nsfw+rules"),
    ]
    told = moderation_of(verdicts)
    assert told["model"] == "rules+prompt-checker+open-nsfw"
    assert [one["stage"] for one in told["results"]] == ["question", "input_image"]  # type: ignore[attr-defined]


def test_a_pictures_origin_is_its_requests() -> None:
    intent = PaintIntent("t", 5, "m", 1, "png", 100, 7, fingerprint="f", request_id="req-1", language="en")
    origin = intent.origin("paint-1")
    assert (origin.job_id, origin.created, origin.model) == ("paint-1", 5, "m")
    assert origin[3:] == ("f", "req-1", "en")


@pytest.mark.parametrize("expected", ["", "old"])
def test_the_model_that_gave_the_result_replaces_the_expected_one(expected: str) -> None:
    generated = msgspec.structs.replace(answered("yes"), model="new", fingerprint="f-new", untrained=True)
    begun = ConversationMeta(1, expected, expected, "ab", 224)
    chat = with_model(ChatIntent("t", 1, expected, "conv-1", "q", 7, begun), generated)
    assert chat == ChatIntent("t", 1, "new", "conv-1", "q", 7, ConversationMeta(1, "new", "f-new", "ab", 224), True)
    later = with_model(ChatIntent("t", 1, expected, "conv-1", "q", 7), generated)
    assert isinstance(later, ChatIntent) and (later.model, later.begun) == ("new", None)
    paint = with_model(PaintIntent("t", 1, expected, 1, "png", 80, 7, fingerprint=expected), generated)
    assert paint == PaintIntent("t", 1, "new", 1, "png", 80, 7, True, "f-new")


def test_a_result_without_a_name_leaves_the_intent_alone() -> None:
    """Of a worker of the version before, in a rolling change of the service itself."""
    assert with_model(chat_intent(), answered("yes")) == chat_intent()
    assert with_model(SafetyIntent(), msgspec.structs.replace(answered("yes"), model="m")) == SafetyIntent()
