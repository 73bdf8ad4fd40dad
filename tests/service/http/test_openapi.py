"""What the description says of bodies, answers and errors."""

import json
from collections.abc import Iterator

import yaml

from service.core.settings import Settings
from service.http.app import create_app
from service.http.openapi import CHAT_BODY, documented
from service.http.openapi_yaml import render
from service.http.schemas.a1111 import Txt2ImgRequest
from service.http.schemas.chat import ChatRequest
from service.http.schemas.moderations import ModerationRequest
from service.http.schemas.openai.images import ImageGenerationRequest
from service.http.schemas.paint import PaintRequest
from service.http.schemas.requests import OpenRequest
from service.jobs.answers import ChatResponse, PaintResponse


def test_the_description_names_every_routes_errors() -> None:
    document = yaml.safe_load(render())
    assert document == json.loads(json.dumps(create_app(Settings()).openapi()))
    for path in ("/chat", "/paint"):
        responses = document["paths"][path]["post"]["responses"]
        assert {"200", "202", "400", "408", "413", "415", "429", "500", "503", "504"} <= set(responses)
    for operations in document["paths"].values():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                if int(status) >= 400:
                    schema = response["content"]["application/json"]["schema"]
                    assert schema == {"$ref": "#/components/schemas/ErrorResponse"}
    references = set(_references(document))
    assert references <= {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}


def _references(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value
            yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)


def test_a_route_that_makes_a_job_can_fail_as_jobs_do() -> None:
    told = documented(ChatResponse, body=CHAT_BODY, stream=True, may_wait=True, statuses=(404,))
    assert set(told["responses"]) == {200, 202, 400, 404, 408, 413, 415, 422, 429, 500, 503, 504}
    assert set(told["responses"][200]["content"]) == {"application/json", "text/event-stream"}
    assert "location" in told["responses"][202]["headers"]
    assert told["openapi_extra"] == {"requestBody": CHAT_BODY} and told["status_code"] == 200


def test_a_route_without_a_job_fails_in_two_ways_and_those_that_it_names() -> None:
    told = documented(None, statuses=(404, 503))
    assert set(told["responses"]) == {204, 400, 404, 500, 503} and told["status_code"] == 204
    assert told["responses"][204]["content"] == {} and told["openapi_extra"] == {}
    assert documented(None, plain=True)["status_code"] == 200


def test_an_error_names_its_codes_and_when_to_come_back() -> None:
    responses = documented(None, statuses=(409, 429, 503, 504))["responses"]
    assert responses[429]["description"] == "Error: `queue_full`, `too_many_watchers`"
    assert "`bus_unavailable`" in responses[503]["description"] and "`draining`" in responses[503]["description"]
    assert {status for status, told in responses.items() if "retry-after" in told.get("headers", {})} == {409, 429, 503}


def test_pictures_and_text_are_documented_beside_json() -> None:
    painted = documented(PaintResponse, pictures=True)["responses"][200]["content"]
    assert set(painted) == {"application/json", "image/png", "image/jpeg", "image/webp"}
    assert set(documented(None, text=True)["responses"][200]["content"]) == {"text/plain"}


def test_every_request_field_is_described_as_it_is_checked() -> None:
    schemas = create_app(Settings()).openapi()["components"]["schemas"]
    for model in (ChatRequest, PaintRequest, ImageGenerationRequest, ModerationRequest, Txt2ImgRequest):
        described = schemas[model.__name__]
        assert set(described["properties"]) == set(model.model_fields)
        assert described["additionalProperties"] is issubclass(model, OpenRequest)
    assert schemas["PaintRequest"]["properties"]["n"]["maximum"] == 4
    assert "HTTPValidationError" not in schemas, "FastAPI's 422 is our 400"
