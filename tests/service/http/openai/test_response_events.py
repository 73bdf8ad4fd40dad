"""Answers as responses: whole, too long, and refused."""

from typing import Any

import pytest

from service.http.openai.completion import Completion
from service.http.openai.response_events import PendingResponse
from service.http.schemas.openai.responses import ResponseObject
from service.jobs.answers import ChatResponse, ChatUsage, Outcome
from service.queue.record import Ending

BEGUN = ResponseObject(
    id="resp_1",
    created_at=7,
    model="gpt-4o",
    status="in_progress",
    output=[],
    instructions=None,
    max_output_tokens=None,
    previous_response_id=None,
    store=True,
    temperature=None,
    top_p=None,
    truncation="auto",
)
RESPONSE = PendingResponse(BEGUN, Completion("resp_1", 7, "gpt-4o", "beam", 3, ["chat-1"]), "conv-1")


def outcome(finish_reason: Any) -> Outcome:
    usage = ChatUsage(prompt_tokens=70, image_tokens=64, completion_tokens=2, total_tokens=72)
    answer = ChatResponse(
        id="chat-1",
        created=7,
        model="own",
        conversation_id="conv-1",
        answer="text",
        finish_reason=finish_reason,
        usage=usage,
        seed=3,
    )
    return Outcome(Ending("done"), answer)


@pytest.mark.parametrize(
    ("finish_reason", "status", "reason"),
    [
        ("stop", "completed", None),
        ("length", "incomplete", "max_output_tokens"),
        ("content_filter", "incomplete", "content_filter"),
    ],
)
def test_an_answer_is_complete_or_says_why_not(finish_reason: str, status: str, reason: str | None) -> None:
    whole = RESPONSE.whole(outcome(finish_reason))
    assert (whole.status, whole.output[0].status) == (status, status) and whole.output[0].id == "msg_1"
    assert (whole.incomplete_details.reason if whole.incomplete_details else None) == reason
    assert whole.output[0].content[0].text == "text"
    assert whole.usage is not None and whole.usage.input_tokens_details.image_tokens == 64
    assert whole.viscpm is not None
    assert (whole.viscpm.conversation_id == "conv-1") is (reason != "content_filter"), "what is refused is not kept"
    assert BEGUN.output == [] and BEGUN.status == "in_progress"
