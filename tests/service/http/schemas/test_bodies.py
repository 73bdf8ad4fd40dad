"""What the description gives as examples of bodies is taken as such."""

import base64
import io
from typing import Any

import pytest
from PIL import Image
from pydantic import BaseModel

from service.core.settings import Settings
from service.http.schemas import bodies
from service.http.schemas.a1111 import OptionsRequest, Txt2ImgRequest
from service.http.schemas.conversations import BranchRequest, ImportRequest, RegenerateRequest, RenameRequest
from service.http.schemas.openai.batches import BatchCreateRequest
from service.http.schemas.openai.chat_completions import ChatCompletionRequest
from service.http.schemas.openai.images import ImageGenerationRequest
from service.http.schemas.openai.responses import ResponseRequest


@pytest.mark.parametrize(
    ("body", "model"),
    [
        (bodies.IMAGES_BODY, ImageGenerationRequest),
        (bodies.TXT2IMG_BODY, Txt2ImgRequest),
        (bodies.OPTIONS_BODY, OptionsRequest),
        (bodies.CHAT_COMPLETION_BODY, ChatCompletionRequest),
        (bodies.RESPONSE_BODY, ResponseRequest),
        (bodies.REGENERATE_BODY, RegenerateRequest),
        (bodies.RENAME_BODY, RenameRequest),
        (bodies.BRANCH_BODY, BranchRequest),
        (bodies.IMPORT_BODY, ImportRequest),
        (bodies.BATCH_BODY, BatchCreateRequest),
    ],
)
def test_an_example_is_a_request(body: dict[str, Any], model: type[BaseModel]) -> None:
    told = body["content"]["application/json"]
    assert told["schema"]["$ref"].endswith(f"/{model.__name__}")
    model.model_validate(told["example"], context=Settings())


def test_the_examples_picture_is_one() -> None:
    example = bodies.CHAT_COMPLETION_BODY["content"]["application/json"]["example"]
    url = example["messages"][0]["content"][0]["image_url"]["url"]
    with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as picture:
        picture.load()
        assert picture.size == (1, 1)


def test_the_form_has_the_fields_of_the_json_as_text_can_hold_them() -> None:
    request = {
        "type": "object",
        "required": ["question"],
        "properties": {
            "question": {"type": "string", "minLength": 1},
            "seed": {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "null"}], "default": None},
            "stop": {"anyOf": [{"type": "string"}, {"type": "boolean"}, {"type": "null"}]},
            "num_beams": {"type": ["integer", "null"], "default": 3},
            "priority": {"type": ["string", "null"], "enum": ["interactive", "batch", None]},
            "include": {"type": ["array", "null"], "items": {"const": "moderation"}},
            "image": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
        },
    }
    form = bodies.chat_form(request)
    assert (form["title"], form["type"], form["required"]) == ("ChatForm", "object", ["question"])
    fields = form["properties"]
    assert fields["question"] == {"type": "string", "minLength": 1}
    assert fields["seed"] == {"type": "integer", "minimum": 0}
    assert fields["stop"] == {"anyOf": [{"type": "string"}, {"type": "boolean"}]}
    assert fields["num_beams"] == {"type": "integer", "default": 3}
    assert fields["priority"] == {"type": "string", "enum": ["interactive", "batch"]}
    assert fields["include"]["type"] == "string"
    assert (fields["image"]["type"], fields["image"]["format"]) == ("string", "binary")
    assert request["properties"]["seed"]["default"] is None, "the JSON's own stays as it is"
