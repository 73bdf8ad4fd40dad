"""What the description says of bodies, answers and errors."""

import json
from collections.abc import Iterator

import pytest
import yaml

from service.core.settings import Settings
from service.http.app import create_app
from service.http.openapi import access_of, documented
from service.http.openapi_yaml import render
from service.http.schemas.a1111 import Txt2ImgRequest
from service.http.schemas.bodies import CHAT_BODY
from service.http.schemas.chat import ChatRequest
from service.http.schemas.moderations import ModerationRequest
from service.http.schemas.openai.images import ImageGenerationRequest
from service.http.schemas.paint import PaintRequest
from service.http.schemas.requests import OpenRequest
from service.jobs.answers import ChatResponse, PaintResponse


@pytest.mark.slow
def test_the_description_names_every_routes_errors() -> None:
    document = yaml.load(render(), Loader=yaml.CSafeLoader)
    assert document == json.loads(json.dumps(create_app(Settings()).openapi()))
    for path in ("/chat", "/paint"):
        responses = document["paths"][path]["post"]["responses"]
        assert {"200", "202", "400", "408", "413", "415", "429", "500", "503", "504"} <= set(responses)
    for path, operations in document["paths"].items():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                if "health" in path or path.endswith("/ready"):
                    if status == "503":  # no error, but what is not ready
                        assert response.get("content", {}) == operation["responses"]["200"].get("content", {})
                        continue
                if int(status) >= 400:
                    schema = response["content"]["application/json"]["schema"]
                    assert schema == {"$ref": "#/components/schemas/ErrorResponse"}
    references = set(_references(document))
    assert references <= {
        f"#/components/{part}/{name}" for part in ("schemas", "headers") for name in document["components"][part]
    }


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
    told = documented(ChatResponse, body=CHAT_BODY, stream=True, may_wait=True, statuses=(404,), access="chat")
    assert set(told["responses"]) == {200, 202, 400, 401, 403, 404, 408, 409, 413, 415, 422, 429, 500, 503, 504}
    assert set(told["responses"][200]["content"]) == {"application/json", "text/event-stream"}
    assert "location" in told["responses"][202]["headers"]
    security = [{"bearer": ["chat"]}, {"x-api-key": ["chat"]}]
    extra = told["openapi_extra"]
    assert (extra["security"], extra["requestBody"], told["status_code"]) == (security, CHAT_BODY, 200)
    assert [parameter["name"] for parameter in extra["parameters"]] == ["Idempotency-Key", "async", "X-Deadline-Ms"]


def test_a_route_without_a_job_fails_in_two_ways_and_those_that_it_names() -> None:
    told = documented(None, statuses=(404, 503), access="open")
    assert set(told["responses"]) == {204, 400, 404, 500, 503} and told["status_code"] == 204
    assert told["responses"][204]["content"] == {} and told["openapi_extra"] == {"security": []}
    assert documented(None, plain="object")["status_code"] == 200


def test_what_a_route_asks_for_is_read_from_its_description() -> None:
    class Route:
        def __init__(self, openapi_extra: object) -> None:
            self.openapi_extra = openapi_extra

    for access in ("open", "any", "chat", "paint", "moderate", "admin"):
        told = documented(None, access=access)  # type: ignore[arg-type]
        assert access_of(Route(told["openapi_extra"])) == access
        assert ({401, 403, 429} <= set(told["responses"])) is (access != "open")
    assert access_of(Route(None)) == access_of(Route({})) == "admin"


def test_an_error_names_its_codes_and_when_to_come_back() -> None:
    responses = documented(None, statuses=(409, 429, 503, 504))["responses"]
    assert responses[429]["description"] == "Error: `queue_full`, `rate_limit_exceeded`, `too_many_watchers`"
    assert "`bus_unavailable`" in responses[503]["description"] and "`draining`" in responses[503]["description"]
    assert {status for status, told in responses.items() if "retry-after" in told.get("headers", {})} == {409, 429, 503}


def test_pictures_and_text_are_documented_beside_json() -> None:
    painted = documented(PaintResponse, pictures=True)["responses"][200]["content"]
    assert set(painted) == {"application/json", "image/png", "image/jpeg", "image/webp"}
    assert set(documented(None, text=True)["responses"][200]["content"]) == {"text/plain"}


@pytest.mark.slow
def test_an_answer_that_is_no_json_is_not_told_to_be() -> None:
    paths = create_app(Settings()).openapi()["paths"]
    told = {path: set(paths[path]["get"]["responses"]["200"]["content"]) for path in _NO_JSON}
    assert told == _NO_JSON


_IMAGES = {"image/png", "image/jpeg", "image/webp"}
_NO_JSON = {
    "/metrics": {"text/plain"},
    "/jobs/{job_id}/events": {"text/event-stream"},
    "/v1/files/{file_id}/content": {"application/jsonl"},
    "/v1/images/pictures/{name}": _IMAGES,
}


@pytest.mark.slow
def test_every_request_field_is_described_as_it_is_checked() -> None:
    schemas = create_app(Settings()).openapi()["components"]["schemas"]
    for model in (ChatRequest, PaintRequest, ImageGenerationRequest, ModerationRequest, Txt2ImgRequest):
        described = schemas[model.__name__]
        assert set(described["properties"]) == set(model.model_fields)
        assert described["additionalProperties"] is issubclass(model, OpenRequest)
    assert schemas["PaintRequest"]["properties"]["n"]["maximum"] == 4
    assert "default" not in schemas["ChatCompletionRequest"]["properties"]["stop"], "generated clients would send '[]'"
    assert "HTTPValidationError" not in schemas, "FastAPI's 422 is our 400"
