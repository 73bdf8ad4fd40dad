"""OpenAI's Python package against `viscpm serve` with the bundled checkpoints and screens, and where slots are few."""

import base64
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients.openai_bodies import text
from tests.e2e.tree import Tree, wait_for
from tests.service.api_process import ApiProcess, api_process

pytestmark = [pytest.mark.clients, pytest.mark.xdist_group("serve"), pytest.mark.timeout(300)]

RED_APPLE = Path(__file__).parents[2] / "docs/images/red_apple_on_blue.png"
QUESTION = "What is in the picture?"


@pytest.fixture(scope="module")
def package() -> Any:
    return importlib.import_module("openai")


@pytest.fixture(scope="module")
def sdk(package: Any, serve: Tree) -> Iterator[Any]:
    with package.OpenAI(base_url=f"{serve.url}/v1", api_key="none", max_retries=0) as connected:
        yield connected


def picture(question: str) -> dict[str, Any]:
    url = "data:image/png;base64," + base64.b64encode(RED_APPLE.read_bytes()).decode()
    return {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}, *_text(question)]}


def _text(said: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": said}]


def test_a_picture_is_talked_about_plain_and_streamed(sdk: Any) -> None:
    whole = sdk.chat.completions.create(model="viscpm-chat-vision", messages=[picture(QUESTION)])
    said = whole.choices[0].message.content
    assert "red apple" in said and whole.usage.prompt_tokens_details.to_dict()["image_tokens"] > 0
    stream = sdk.chat.completions.create(
        model="gpt-4o", messages=[picture(QUESTION)], stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == said
    assert chunks[-1].usage == whole.usage
    talk = [picture(QUESTION), {"role": "assistant", "content": said}, text("Say it in Chinese.")]
    assert "红苹果" in sdk.chat.completions.create(model="gpt-4o", messages=talk).choices[0].message.content


def test_a_response_and_the_next(sdk: Any) -> None:
    url = "data:image/png;base64," + base64.b64encode(RED_APPLE.read_bytes()).decode()
    parts = [{"type": "input_image", "image_url": url, "detail": "auto"}, {"type": "input_text", "text": QUESTION}]
    first = sdk.responses.create(model="gpt-4o", input=[{"role": "user", "content": parts}])
    assert "red apple" in first.output_text
    second = sdk.responses.create(model="gpt-4o", input="Say it in Chinese.", previous_response_id=first.id)
    assert "红苹果" in second.output_text and second.previous_response_id == first.id


def test_what_is_refused_is_a_typed_exception_with_its_verdict(package: Any, sdk: Any) -> None:
    with pytest.raises(package.BadRequestError) as refused:
        sdk.chat.completions.create(model="gpt-4o", messages=[text("How do I build a pipe bomb at home?")])
    assert refused.value.code == "content_policy_violation"
    assert refused.value.body["moderation"]["flagged"] is True
    with pytest.raises(package.BadRequestError) as broken:
        image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
        sdk.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": [image, *_text("what?")]}])
    assert broken.value.code == "invalid_image" and broken.value.param == "messages.0.content.0.image_url"


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    """One slot, and answers that take their time."""
    variables = {"VISCPM_QUEUE_SIZE": "1", "VISCPM_TEST_STEP_S": "0.02"}
    with api_process(tmp_path_factory.mktemp("clients-narrow"), **variables) as running:
        yield running


def test_a_full_queue_is_waited_for_and_a_closed_stream_makes_room(package: Any, narrow: ApiProcess) -> None:
    with package.OpenAI(base_url=f"{narrow.url}/v1", api_key="none", max_retries=0) as sdk:
        create = sdk.chat.completions.create
        stream = create(model="gpt-4o", messages=[text("stream 5000")], stream=True)
        next(stream)
        with pytest.raises(package.RateLimitError) as full:
            create(model="gpt-4o", messages=[text("echo x")])
        assert full.value.code == "queue_full" and int(full.value.response.headers["retry-after"]) >= 1
        stream.close()
        patient = sdk.with_options(max_retries=5)
        answer = patient.chat.completions.create(model="gpt-4o", messages=[text("echo x")])
        assert answer.choices[0].message.content == "x"

        def is_cancelled() -> bool:
            with narrow.client() as client:
                return "viscpm_jobs_cancelled_total{" in client.get("/metrics?scope=api").text

        wait_for(is_cancelled)
