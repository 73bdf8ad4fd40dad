"""Pictures by OpenAI's own Python package, asked of `viscpm serve` with the bundled checkpoint behind real screens."""

import base64
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from PIL import Image

from tests.e2e.tree import Tree, wait_for

if TYPE_CHECKING:
    from openai import OpenAI

FEW_STEPS = {"num_inference_steps": 8}  # where it does not matter what is painted
pytestmark = [pytest.mark.clients, pytest.mark.xdist_group("serve"), pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def client(serve: Tree) -> "Iterator[OpenAI]":
    from openai import OpenAI

    with OpenAI(base_url=f"{serve.url}/v1", api_key="sk-any", http_client=httpx.Client(trust_env=False)) as connected:
        yield connected


def _opened(data: bytes | str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(data) if isinstance(data, str) else data))


def test_a_picture_plain(client: "OpenAI") -> None:
    answer = client.images.generate(
        model="gpt-image-1", prompt="red apple", size="1024x1024", quality="high", extra_body={"seed": 7}
    )
    assert answer.data is not None and answer.usage is not None
    picture = _opened(answer.data[0].b64_json or "")
    assert (picture.format, answer.size) == ("PNG", f"{picture.width}x{picture.height}")
    assert answer.usage.input_tokens_details.text_tokens == answer.usage.total_tokens > 0
    assert (answer.output_format, answer.background) == ("png", "opaque") and answer.created > 1_700_000_000
    ours: Any = answer.model_extra
    assert ours["viscpm"]["seeds"] == [7] and ours["viscpm"]["moderation"]["flagged"] is False
    raw = client.images.with_raw_response.generate(
        model="gpt-image-1", prompt="red apple", quality="high", extra_body=FEW_STEPS
    )
    assert raw.headers["x-ignored-parameters"] == "quality"


@pytest.mark.parametrize("fields", [{}, {"response_format": "url"}], ids=["as DALL-E does", "asked for"])
def test_a_picture_at_an_address(client: "OpenAI", fields: dict[str, Any]) -> None:
    answer = client.images.generate(
        model="dall-e-3", prompt="红苹果", n=1, style="vivid", extra_body=FEW_STEPS, **fields
    )
    assert answer.data is not None and answer.data[0].b64_json is None
    fetched = httpx.get(answer.data[0].url or "", trust_env=False)
    assert fetched.status_code == 200 and fetched.headers["content-type"] == "image/png"
    assert _opened(fetched.content).format == "PNG" and b"AIGC" in fetched.content


def test_a_picture_streamed_with_its_previews(client: "OpenAI") -> None:
    from openai.types import ImageGenCompletedEvent, ImageGenPartialImageEvent

    stream = client.images.generate(
        model="gpt-image-1", prompt="red apple", stream=True, partial_images=2, extra_body={"seed": 7} | FEW_STEPS
    )
    *previews, completed = list(stream)
    assert all(isinstance(one, ImageGenPartialImageEvent) for one in previews) and 0 < len(previews) <= 2
    assert [getattr(one, "partial_image_index", None) for one in previews] == list(range(len(previews)))
    assert isinstance(completed, ImageGenCompletedEvent) and completed.usage.total_tokens > 0
    for one in (*previews, completed):
        picture = _opened(one.b64_json)
        assert one.size == f"{picture.width}x{picture.height}"
    whole = client.images.generate(model="gpt-image-1", prompt="red apple", extra_body={"seed": 7} | FEW_STEPS)
    assert whole.data is not None
    assert _opened(whole.data[0].b64_json or "").tobytes() == _opened(completed.b64_json).tobytes()


def test_a_stream_that_is_closed_takes_its_painting_along(client: "OpenAI", serve: Tree) -> None:
    stream = client.images.generate(
        model="gpt-image-1", prompt="red apple", stream=True, partial_images=3, extra_body={"num_inference_steps": 200}
    )
    before = serve.metric("viscpm_jobs", model="paint", state="cancelled")
    assert next(iter(stream)).type == "image_generation.partial_image"
    stream.close()
    wait_for(lambda: serve.metric("viscpm_jobs", model="paint", state="cancelled") > before, 60, "the cancelling")


def test_errors_are_their_typed_exceptions(client: "OpenAI") -> None:
    import openai

    def refused(
        kind: type[openai.APIStatusError], code: str, param: str | None, **fields: Any
    ) -> openai.APIStatusError:
        with pytest.raises(kind) as caught:
            client.images.generate(**{"model": "gpt-image-1", "prompt": "red apple", **fields})
        assert (caught.value.code, caught.value.param) == (code, param)
        return caught.value

    assert "4, got 9" in refused(openai.BadRequestError, "invalid_request", "n", n=9).message
    refused(openai.NotFoundError, "model_not_found", "model", model="sora")
    refused(openai.NotFoundError, "model_not_found", "model", model="gpt-4o")
    blocked = refused(openai.BadRequestError, "content_policy_violation", "prompt", prompt="教我怎么制造炸弹")
    assert isinstance(blocked.body, dict) and blocked.body["moderation"]["flagged"] is True
    with pytest.raises(openai.NotFoundError, match="no edits and no variations"):
        client.images.edit(model="gpt-image-1", image=b"png", prompt="x")
    refused(openai.BadRequestError, "content_policy_violation", "prompt", prompt="教我怎么制造炸弹", stream=True)


def test_moderations_are_typed(client: "OpenAI") -> None:
    answer = client.moderations.create(input=["a cat on a sofa", "how to build a pipe bomb at home"])
    safe, bomb = answer.results
    assert (safe.flagged, bomb.flagged, bomb.categories.illicit_violent) == (False, True, True)
    assert bomb.category_applied_input_types.illicit_violent == ["text"] and safe.categories.harassment is False
    png = io.BytesIO()
    Image.new("RGB", (64, 64), (10, 120, 30)).save(png, "PNG")
    url = f"data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}"
    [seen] = client.moderations.create(input=[{"type": "image_url", "image_url": {"url": url}}]).results
    assert seen.flagged is False and seen.category_applied_input_types.sexual == ["image"]
    assert seen.categories.harassment is None and seen.category_scores.harassment is None, "no screen looked for it"


def test_another_process_knows_the_addresses_of_this_one(client: "OpenAI") -> None:
    """Each connection is one process'; among as many, both are."""
    answer = client.images.generate(model="dall-e-2", prompt="red apple", extra_body=FEW_STEPS)
    assert answer.data is not None and answer.data[0].url is not None
    fetched = {httpx.get(answer.data[0].url, trust_env=False).content for _ in range(16)}
    assert len(fetched) == 1 and _opened(fetched.pop()).format == "PNG"
