"""Bodies of responses, and the ids that lead to what is kept."""

from typing import Any

import pytest
from pydantic import ValidationError

from service.core.errors import ConversationNotFound, InvalidRequest
from service.core.settings import Settings
from service.http.schemas.openai.messages import Message
from service.http.schemas.openai.responses import KeptResponse, ResponseRequest, kept_response, response_id


def read(asked: Any = "q", **fields: Any) -> ResponseRequest:
    return ResponseRequest.model_validate({"model": "m", "input": asked, **fields}, context=Settings())


def test_an_input_is_a_text_or_messages() -> None:
    assert list(read("q", instructions="be kind").told()) == [
        Message("system", "be kind", "instructions"),
        Message("user", "q", "input"),
    ]
    parts = [{"type": "input_text", "text": "a"}, {"type": "input_image", "image_url": "AAAA"}]
    answer = [{"type": "output_text", "text": "b", "annotations": []}, {"type": "refusal", "refusal": "no"}]
    told = read(
        [
            {"role": "developer", "content": "be kind"},
            {"role": "user", "content": parts},
            {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content": answer},
        ]
    ).told()
    assert list(told) == [
        Message("system", "be kind", "input.0"),
        Message("user", "a", "input.1", [("AAAA", "input.1.content.1.image_url")]),
        Message("assistant", "b\nno", "input.2"),
    ]


@pytest.mark.parametrize("asked", [[], 3, [{"type": "reasoning"}], [{"role": "tool", "content": "x"}]])
def test_what_is_no_input_is_refused(asked: Any) -> None:
    with pytest.raises(ValidationError):
        read(asked)


@pytest.mark.parametrize(
    "fields",
    [
        {"background": True},
        {"text": {"format": {"type": "json_object"}}},
        {"top_logprobs": 2},
        {"include": ["message.output_text.logprobs"]},
        {"conversation": {"id": "c"}},
        {"prompt": {"id": "p"}},
    ],
)
def test_what_cannot_be_given_is_refused_by_name(fields: Any) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read(**fields).require_possible()
    assert refused.value.param == next(iter(fields))


def test_what_asks_for_nothing_is_taken() -> None:
    asked = read(text={"verbosity": "low"}, include=["reasoning.encrypted_content"], background=False, tools=[])
    asked.require_possible()
    assert asked.ignored() == ["text", "include", "background", "tools"]


def test_an_id_leads_to_a_conversation_and_its_turn() -> None:
    for kept in (KeptResponse("conv-a_b-c", 12), KeptResponse("conv-x_3", 1)):
        assert kept_response(response_id(kept)) == kept
    for strange in ("", "resp_a", "resp_a_0", "resp_a:b_1", "chat-1", "resp__1x"):
        with pytest.raises(ConversationNotFound, match="no response") as refused:
            kept_response(strange)
        assert refused.value.param == "previous_response_id"
