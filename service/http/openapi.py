"""What openapi.yaml says beyond the routes' signatures: bodies, answers, streams and every error a route can give."""

from collections.abc import Iterable
from typing import Any, Literal, get_args

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.responses import Response

from service.access.api_keys import Scope
from service.core import errors
from service.http.schemas.a1111 import OptionsRequest, Txt2ImgRequest, Txt2ImgResponse
from service.http.schemas.bodies import (
    CHAT_COMPLETION_BODY,
    IMAGES_BODY,
    OPTIONS_BODY,
    RESPONSE_BODY,
    TXT2IMG_BODY,
    chat_form,
)
from service.http.schemas.chat import ChatDelta, ChatRequest
from service.http.schemas.conversations import (
    BranchRequest,
    ConversationExport,
    ConversationList,
    ConversationResponse,
    ImportRequest,
    RegenerateRequest,
    RenameRequest,
)
from service.http.schemas.errors import ErrorResponse
from service.http.schemas.headers import HEADERS, OF_ACCEPTED, OF_ALL, OF_LIMITS, OF_PICTURES, OF_STREAMS, told
from service.http.schemas.jobs import JobList, JobResponse
from service.http.schemas.moderations import ModerationRequest, ModerationResponse
from service.http.schemas.openai.batches import BatchCreateRequest, BatchList, BatchObject
from service.http.schemas.openai.chat_completions import ChatCompletion, ChatCompletionChunk, ChatCompletionRequest
from service.http.schemas.openai.files import DeletedFile, FileList, FileObject
from service.http.schemas.openai.images import ImageGenerationRequest, ImagesResponse
from service.http.schemas.openai.models import ModelCard, ModelList
from service.http.schemas.openai.responses import DeletedResponse, ResponseObject, ResponseRequest
from service.http.schemas.paint import PaintRequest
from service.http.schemas.usage import UsageResponse
from service.jobs import answers as job_answers

_REFERENCE = "#/components/schemas/{name}"
_ANSWERS = (
    job_answers.ChatResponse,
    job_answers.PaintResponse,
    ConversationResponse,
    ConversationList,
    ConversationExport,
    JobResponse,
    JobList,
    UsageResponse,
    ModerationResponse,
    ImagesResponse,
    Txt2ImgResponse,
    ChatDelta,
    ChatCompletion,
    ChatCompletionChunk,
    ModelCard,
    ModelList,
    ResponseObject,
    DeletedResponse,
    FileObject,
    FileList,
    DeletedFile,
    BatchObject,
    BatchList,
    ErrorResponse,
)
_REQUESTS = (
    ChatRequest,
    RegenerateRequest,
    RenameRequest,
    BranchRequest,
    ImportRequest,
    PaintRequest,
    ModerationRequest,
    ChatCompletionRequest,
    ResponseRequest,
    ImageGenerationRequest,
    Txt2ImgRequest,
    OptionsRequest,
    BatchCreateRequest,
)

Access = Literal["open", "any"] | Scope  # what a route asks for: no key, a key, or one of a scope
_ACCESSES: tuple[Access, ...] = ("open", "any", *get_args(Scope))
_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key, where the service asks for one."},
    "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key", "description": "The same key."},
}
# Of any request that needs a key: none or a wrong one, the wrong scope, too many wrong ones
_KEY_ERRORS = (401, 403, 429, 503)

_DEADLINE = {
    "name": "X-Deadline-Ms",
    "in": "header",
    "schema": {"type": "integer", "minimum": 1, "maximum": 999_999_999},
    "description": "After which the job is cancelled, queued or running; at most the service's own deadline.",
}
# Of requests that can be come back to
_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
    "description": "Sent again with the same body, the request gets the answer of the first one.",
}
_OF_WAITING: list[dict[str, Any]] = [
    _IDEMPOTENCY_KEY,
    {
        "name": "async",
        "in": "query",
        "schema": {"type": "boolean"},
        "description": "As `Prefer: respond-async`: the answer is 202 with the job's id.",
    },
]
# No type: some read a stream's schema as that of all of it, some as that of one event
_EVENTS = "Server-sent events: `data` of each is JSON, of the last `[DONE]`"
# Statuses of any request that carries a body and becomes a job
_JOB_ERRORS = (400, 408, 409, 413, 415, 422, 429, 500, 503, 504)


def _reference(name: str) -> dict[str, str]:
    return {"$ref": _REFERENCE.format(name=name)}


# What they say beyond their fields has no effect
_OPEN_BODIES = (IMAGES_BODY, TXT2IMG_BODY, OPTIONS_BODY, CHAT_COMPLETION_BODY, RESPONSE_BODY)


def documented(
    answer: type[msgspec.Struct] | None,
    *,
    body: dict[str, Any] | None = None,
    stream: bool = False,
    may_wait: bool = False,
    makes_job: bool = False,
    idempotent: bool = False,
    pictures: bool = False,
    plain: Literal["object", "array", "null", ""] = "",
    text: bool = False,
    empty: bool = False,
    lines: bool = False,
    statuses: Iterable[int] = (),
    told_alike: Iterable[int] = (),
    headers: Iterable[str] = (),
    access: Access = "admin",
) -> dict[str, Any]:
    """Arguments of a route's decorator.

    Args:
        access: what a request needs where the service asks for keys.
        statuses: of errors, beyond 400 and 500 and those of jobs.
        headers: of the 200, beyond those that follow from the rest.
        told_alike: statuses whose answers have the shape of the 200's.
        answer: of the 200; None for none, and then 204 unless the 200 is a stream, `plain` JSON, `text`,
            JSON `lines` or `empty`.
        makes_job: so it can fail as jobs do.
        idempotent: it takes an `Idempotency-Key`, as all that `may_wait` do.
        may_wait: a job is made, and `Prefer: respond-async` gives 202.
    """
    content: dict[str, Any] = {}
    if answer is not None:
        content["application/json"] = {"schema": _reference(answer.__name__)}
    if pictures:
        binary = {"schema": {"type": "string", "format": "binary", "contentMediaType": "image/*"}}
        content |= {f"image/{name}": binary for name in ("png", "jpeg", "webp")}
    if stream:
        content["text/event-stream"] = {"schema": {"description": _EVENTS}}
    if plain:
        content["application/json"] = {"schema": {"type": plain} | ({"items": {}} if plain == "array" else {})}
    if text:
        content["text/plain"] = {"schema": {"type": "string"}}
    if lines:
        content["application/jsonl"] = {"schema": {"type": "string", "format": "binary"}}
    status = 200 if content or empty else 204
    responses: dict[int | str, dict[str, Any]] = {status: {"description": "Success", "content": content}}
    if may_wait:
        responses[202] = {
            "description": "Accepted: `Prefer: respond-async` or `?async=true` was sent",
            "content": {"application/json": {"schema": _reference("JobResponse")}},
            "headers": told(OF_ACCEPTED),
        }
    of_route = _JOB_ERRORS if may_wait or makes_job else (400, 500)
    of_key = () if access == "open" else _KEY_ERRORS
    responses |= {code: _error(code) for code in sorted({*statuses, *of_route, *of_key})}
    responses |= {code: {"description": "Not so", "content": content} for code in told_alike}
    _tell_headers(
        responses,
        [*headers, *(OF_STREAMS if stream else ()), *(OF_PICTURES if pictures and may_wait else ())],
        body,
        may_wait or idempotent,
        access,
    )
    extra: dict[str, Any] = {"security": _security(access)} | ({"requestBody": body} if body is not None else {})
    if may_wait:
        extra["parameters"] = [*_OF_WAITING, _DEADLINE]
    elif makes_job:
        extra["parameters"] = [*([_IDEMPOTENCY_KEY] if idempotent else ()), _DEADLINE]
    arguments = {"response_model": None, "status_code": status, "responses": responses, "openapi_extra": extra}
    # FastAPI tells of JSON wherever the class does
    return arguments | ({"response_class": Response} if status == 200 and "application/json" not in content else {})


def _tell_headers(
    responses: dict[int | str, dict[str, Any]],
    of_success: Iterable[str],
    body: dict[str, Any] | None,
    is_idempotent: bool,
    access: Access,
) -> None:
    """Adds to each answer the headers that it may have."""
    for status, response in responses.items():
        names = [*of_success] if status == 200 else []
        if status in (200, 202) and body in _OPEN_BODIES:
            names.append("x-ignored-parameters")
        if is_idempotent:
            names.append("idempotent-replayed")
        if body is not None and access != "open":
            names += OF_LIMITS
        if names:
            response["headers"] = response.get("headers", {}) | told(names)


def access_of(route: object) -> Access:
    """What a route asks for, by its description; `admin` where that says nothing."""
    security = (getattr(route, "openapi_extra", None) or {}).get("security")
    if security is None:
        return "admin"
    if not security:
        return "open"
    role = next(iter(security[0]["bearer"]), "any")
    return next(access for access in _ACCESSES if access == role)


def _security(access: Access) -> list[dict[str, list[str]]]:
    if access == "open":
        return []
    roles: list[str] = [] if access == "any" else [access]
    return [{scheme: roles} for scheme in _SCHEMES]


def describe(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document."""
    document = get_openapi(
        title=app.title, version=app.version, summary=app.summary, description=app.description, routes=app.routes
    )
    components = document.setdefault("components", {}).setdefault("schemas", {})
    _, answers = msgspec.json.schema_components(_ANSWERS, ref_template=_REFERENCE)
    components |= answers
    for model in _REQUESTS:
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        components |= schema.pop("$defs", {})
        components[model.__name__] = _with_null(schema)
    components["ChatForm"] = chat_form(components[ChatRequest.__name__])
    document["components"]["headers"] = HEADERS
    for path in document["paths"].values():
        for operation in path.values():
            for response in operation["responses"].values():
                response["headers"] = told(OF_ALL) | response.get("headers", {})
            if _is_fastapis(operation["responses"].get("422")):  # where ours are 400
                del operation["responses"]["422"]
    for unused in ("HTTPValidationError", "ValidationError"):
        components.pop(unused, None)
    document["components"]["securitySchemes"] = _SCHEMES
    document["components"]["schemas"] = dict(sorted(components.items()))
    return document


def _with_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Of a request: null is absent, so every field that may be absent may be null."""
    for name, field in schema["properties"].items():
        if name in schema.get("required", ()) or {"type": "null"} in field.get("anyOf", ()):
            continue
        if "enum" in field:
            field["enum"] = [*field["enum"], None]
        if isinstance(field.get("type"), str):
            field["type"] = [field["type"], "null"]
        elif "$ref" in field:
            field["anyOf"] = [{"$ref": field.pop("$ref")}, {"type": "null"}]
        elif "anyOf" in field:
            field["anyOf"] = [*field["anyOf"], {"type": "null"}]
    return schema


def _is_fastapis(response: dict[str, Any] | None) -> bool:
    return response is not None and response.get("description") == "Validation Error"


def _error(status: int) -> dict[str, Any]:
    known = errors.codes_of(status)
    headers: dict[str, Any] = {}
    if status in (409, 429, 503):
        headers["retry-after"] = {"schema": {"type": "integer", "minimum": 1}}
    if status == 401:
        headers["www-authenticate"] = {"schema": {"type": "string"}}
    described: dict[str, Any] = {
        "description": "Error: " + ", ".join(f"`{code}`" for code in known),
        "content": {"application/json": {"schema": _reference("ErrorResponse")}},
    }
    return described | ({"headers": headers} if headers else {})
