"""Every exception as an answer in the one documented form."""

from typing import Any, Literal, Self

import pytest
from pydantic import BaseModel, Field, ValidationError, model_validator
from starlette.exceptions import HTTPException

from service.core.errors import BodyTimeout, InvalidRequest, Unavailable
from service.http.error_handlers import error_response, from_exception, from_validation
from tests.service.web import Service, assert_error


@pytest.mark.slow
async def test_routes_methods_and_media_that_are_not_there(service: Service) -> None:
    client = service.client
    assert_error(await client.get("/nothing"), 404, "not_found")
    wrong_method = await client.get("/chat")
    assert_error(wrong_method, 405, "method_not_allowed")
    assert wrong_method.headers["allow"] == "POST, OPTIONS"
    for path in ("/chat", "/paint"):
        for content_type in ("text/plain", "application/x-www-form-urlencoded", ""):
            response = await client.post(path, content=b"x", headers={"content-type": content_type})
            assert_error(response, 415, "unsupported_media_type")
    assert await service.metric('viscpm_requests_total{outcome="not_found",route="unmatched"}') == 1
    assert await service.metric('viscpm_requests_total{outcome="unsupported_media_type",route="/paint"}') == 3


def refused(model: type[BaseModel], body: dict[str, Any], strict: bool = True) -> InvalidRequest:
    with pytest.raises(ValidationError) as error:
        model.model_validate(body, strict=strict)
    return from_validation(error.value)


class Inner(BaseModel):
    n: int = Field(1, le=4)


class Body(BaseModel):
    model_config = {"extra": "forbid"}
    text: str = Field(max_length=3)
    inner: Inner = Inner()
    flag: bool = False


class Together(BaseModel):
    a: int = 0

    @model_validator(mode="after")
    def _check(self) -> Self:
        raise ValueError(f"a goes with b, got a {self.a} without it")


def test_a_validation_names_field_rule_and_what_was_got() -> None:
    too_large = refused(Body, {"text": "abc", "inner": {"n": 9}})
    assert too_large.param == "inner.n"
    assert too_large.message == "inner.n: Input should be less than or equal to 4, got 9"
    assert refused(Body, {"text": "abc", "flag": "yes!"}).message.endswith("got 'yes!'")
    missing = refused(Body, {})
    assert (missing.param, missing.message) == ("text", "text: Field required")
    unknown = refused(Body, {"text": "abc", "colour": "red"})
    assert (unknown.param, unknown.message) == ("colour", "colour: unknown field")
    several = refused(Body, {"text": 1, "flag": 2, "inner": 3})
    assert several.param == "text" and several.message.endswith("got 1 (and 2 more)")


class Several(BaseModel):
    rerank: bool | Literal["auto"] = "auto"
    input: str | list[str] | list[Inner] = ""


def test_a_field_of_several_kinds_is_named_as_it_was_sent() -> None:
    either = refused(Several, {"rerank": "x"})
    assert (either.param, either.message) == (
        "rerank",
        "rerank: Input should be a valid boolean, or Input should be 'auto', got 'x'",
    )
    assert refused(Several, {"input": 1, "rerank": 2}).message.endswith("got 2 (and 1 more)")


def test_a_validation_shows_no_long_text_and_no_object() -> None:
    long = refused(Body, {"text": "a secret prompt " * 10})
    assert "secret" not in long.message and long.message.endswith("got 160 characters")
    assert refused(Body, {"text": ["secret"]}).message.endswith("got a list of 1")
    assert refused(Body, {"text": {"url": "secret"}}).message.endswith("valid string, got an object of 'url'")
    assert refused(Body, {"text": {}}).message.endswith("got an object of no fields")
    assert refused(Together, {"a": 3}).message == "body: a goes with b, got a 3 without it"
    assert refused(Body, {"text": None}).message.endswith("got null")


@pytest.mark.parametrize(
    ("raised", "status", "code"),
    [
        (HTTPException(404), 404, "not_found"),
        (HTTPException(405, headers={"Allow": "GET"}), 405, "method_not_allowed"),
        (HTTPException(413, "too large"), 413, "content_too_large"),
        (HTTPException(415, "no"), 415, "unsupported_media_type"),
        (HTTPException(418, "teapot"), 400, "invalid_request"),
        (HTTPException(502, "secret upstream"), 500, "internal_error"),
        (KeyError("secret"), 500, "internal_error"),
        (Unavailable("away", retry_after_s=3), 503, "service_unavailable"),
    ],
)
def test_every_exception_has_one_answer(raised: Exception, status: int, code: str) -> None:
    told = from_exception(raised)
    response = error_response(told)
    assert (response.status_code, told.code) == (status, code)
    assert b"secret" not in bytes(response.body) and response.headers["content-type"] == "application/json"
    assert response.headers.get("retry-after") == ("3" if status == 503 else None)
    if status == 405:
        assert "allowed: GET" in told.message


def test_headers_tell_a_client_when_to_come_back_and_whether_to_hang_up() -> None:
    assert error_response(BodyTimeout("slow")).headers["connection"] == "close"
    assert "connection" not in error_response(InvalidRequest("wrong")).headers
    assert error_response(Unavailable("away", retry_after_s=0)).headers["retry-after"] == "1", "0 would be at once"
