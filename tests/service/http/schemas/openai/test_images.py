"""OpenAI's picture request: what is a field, what is ignored, and when an address may be the answer."""

from typing import Any

import pytest

from service.core.settings import Settings
from service.http.schemas.openai.images import ImageGenerationRequest


def asked(**fields: Any) -> ImageGenerationRequest:
    return ImageGenerationRequest.model_validate({"prompt": "x", **fields}, context=Settings())


def test_what_is_no_field_is_ignored_and_null_is_absent() -> None:
    request = asked(quality="hd", style="vivid", user=None, n=2.0, size=None, extra_body={"a": 1})
    assert request.ignored() == ["quality", "style", "extra_body"]
    assert (request.n, request.size) == (2, "auto")


@pytest.mark.parametrize(
    ("fields", "may_have"),
    [
        ({"model": "dall-e-3"}, True),
        ({"model": "gpt-image-1"}, False),
        ({}, False),
        ({"model": "dall-e-3", "response_format": "b64_json"}, False),
        ({"model": "dall-e-3", "stream": True}, False),
    ],
)
def test_an_address_is_what_clients_of_dall_e_expect(fields: dict[str, Any], may_have: bool) -> None:
    assert asked(**fields).may_have_url is may_have
