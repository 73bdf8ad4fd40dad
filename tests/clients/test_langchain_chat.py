"""LangChain's Python package for OpenAI against the server: a picture question, streamed, over the turns of a talk."""

import importlib
from typing import Any

import pytest

from tests.clients.openai_bodies import DATA_URL
from tests.service.api_process import ApiProcess

pytestmark = [pytest.mark.clients, pytest.mark.xdist_group("api")]


@pytest.fixture(scope="module")
def package() -> Any:
    return importlib.import_module("langchain_openai")


@pytest.fixture(scope="module")
def messages() -> Any:
    return importlib.import_module("langchain_core.messages")


def question(messages: Any, said: str) -> Any:
    return messages.HumanMessage(
        [{"type": "text", "text": said}, {"type": "image_url", "image_url": {"url": DATA_URL}}]
    )


def test_a_picture_question_and_the_next(package: Any, messages: Any, api: ApiProcess) -> None:
    model = package.ChatOpenAI(model="gpt-4o", base_url=f"{api.url}/v1", api_key="none", max_tokens=20, max_retries=0)
    first = model.invoke([messages.SystemMessage("Be kind."), question(messages, "x")])
    assert first.response_metadata["finish_reason"] == "stop" and first.usage_metadata["total_tokens"] > 0
    talk = [question(messages, "echo one"), messages.AIMessage("one"), messages.HumanMessage("echo two")]
    assert model.invoke(talk).content == "two"


def test_a_stream_with_usage(package: Any, messages: Any, api: ApiProcess) -> None:
    model = package.ChatOpenAI(model="gpt-4o", base_url=f"{api.url}/v1", api_key="none", temperature=0.5)
    pieces = list(model.stream([question(messages, "stream 4")], stream_usage=True))
    assert "".join(str(piece.content) for piece in pieces) == "w0 w1 w2 w3 "
    assert [piece.usage_metadata["output_tokens"] for piece in pieces if piece.usage_metadata] == [4]


def test_responses(package: Any, messages: Any, api: ApiProcess) -> None:
    model = package.ChatOpenAI(model="gpt-4o", base_url=f"{api.url}/v1", api_key="none", use_responses_api=True)
    first = model.invoke([question(messages, "echo one")])
    assert first.text == "one" and first.response_metadata["id"].startswith("resp_")
    follow = {"previous_response_id": first.response_metadata["id"]}
    pieces = list(model.stream([messages.HumanMessage("stream 2")], **follow))
    assert "".join(piece.text for piece in pieces) == "w0 w1 "
