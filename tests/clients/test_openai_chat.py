"""OpenAI's own Python package against the server: answers, streams, responses, and errors as its typed exceptions."""

import importlib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.clients.openai_bodies import seen, text
from tests.service.api_process import ApiProcess

pytestmark = [pytest.mark.clients, pytest.mark.xdist_group("api")]


@pytest.fixture(scope="module")
def package() -> Any:
    return importlib.import_module("openai")


@pytest.fixture(scope="module")
def sdk(package: Any, api: ApiProcess) -> Iterator[Any]:
    with package.OpenAI(base_url=f"{api.url}/v1", api_key="sk-none", max_retries=0) as connected:
        yield connected


def test_a_picture_question_plain_and_with_a_second_turn(sdk: Any) -> None:
    first = sdk.chat.completions.create(model="gpt-4o", messages=[seen("echo one")])
    assert first.choices[0].message.content == "one" and first.choices[0].finish_reason == "stop"
    assert first.usage.total_tokens == first.usage.prompt_tokens + first.usage.completion_tokens
    talk = [seen("echo one"), first.choices[0].message.to_dict(), text("echo two")]
    second = sdk.chat.completions.create(model="gpt-4o", messages=talk)
    assert second.choices[0].message.content == "two" and second.to_dict()["viscpm"]["vision_cached"] is True


def test_a_stream_with_usage(sdk: Any) -> None:
    stream = sdk.chat.completions.create(
        model="gpt-4o", messages=[seen("stream 4")], stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == "w0 w1 w2 w3 "
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == 4


def test_several_answers_and_our_own_fields(sdk: Any) -> None:
    several = sdk.chat.completions.create(model="gpt-4o", messages=[text("stream 2")], n=2, temperature=1, seed=3)
    assert [choice.message.content for choice in several.choices] == ["w0 w1 ", "w0 w1 "]
    beams = sdk.chat.completions.create(model="gpt-4o", messages=[text("echo x")], extra_body={"num_beams": 2})
    assert beams.to_dict()["viscpm"]["search"] == "beam"


def test_a_response_its_stream_and_the_next(sdk: Any) -> None:
    first = sdk.responses.create(model="gpt-4o", input="echo one", instructions="Be kind.")
    assert first.status == "completed" and first.usage.total_tokens > 0
    events = list(sdk.responses.create(model="gpt-4o", input="stream 2", previous_response_id=first.id, stream=True))
    assert [event.type for event in events][:2] == ["response.created", "response.in_progress"]
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == "w0 w1 "
    assert events[-1].type == "response.completed" and events[-1].response.output_text == "w0 w1 "


def test_a_response_is_read_and_deleted_by_its_id(package: Any, sdk: Any) -> None:
    first = sdk.responses.create(model="gpt-4o", input="echo one")
    second = sdk.responses.create(model="gpt-4o", input="echo two", previous_response_id=first.id)
    read = sdk.responses.retrieve(second.id)
    assert read.output_text == "two" and read.to_dict() == second.to_dict()
    assert sdk.responses.delete(first.id) is None
    with pytest.raises(package.NotFoundError) as gone:
        sdk.responses.retrieve(first.id)
    assert gone.value.code == "response_not_found"
    assert sdk.responses.retrieve(second.id).previous_response_id == first.id


def test_the_packages_own_collectors_of_streams(sdk: Any) -> None:
    with sdk.chat.completions.stream(model="gpt-4o", messages=[text("stream 3")]) as stream:
        stream.until_done()
        assert stream.get_final_completion().choices[0].message.content == "w0 w1 w2 "
    with sdk.responses.stream(model="gpt-4o", input="stream 3") as stream:
        assert stream.get_final_response().output_text == "w0 w1 w2 "


def test_models(sdk: Any) -> None:
    assert {"gpt-4o", "dall-e-3"} <= {model.id for model in sdk.models.list()}
    assert sdk.models.retrieve("gpt-4o").created > 0


def test_errors_are_the_packages_typed_exceptions(package: Any, sdk: Any) -> None:
    create = sdk.chat.completions.create
    with pytest.raises(package.NotFoundError) as unknown:
        create(model="gpt-5", messages=[text("echo x")])
    assert unknown.value.code == "model_not_found" and unknown.value.param == "model"
    with pytest.raises(package.BadRequestError, match="logprobs"):
        create(model="gpt-4o", messages=[text("echo x")], logprobs=True)
    with pytest.raises(package.BadRequestError, match="got 'tool'"):
        create(model="gpt-4o", messages=[{"role": "tool", "content": "x", "tool_call_id": "c"}])
    with pytest.raises(package.InternalServerError):
        create(model="gpt-4o", messages=[text("raise")])
    with pytest.raises(package.APIError) as streamed:
        list(create(model="gpt-4o", messages=[text("raise")], stream=True))
    assert streamed.value.type == "server_error"
