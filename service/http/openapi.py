"""What openapi.yaml says beyond the routes' signatures: bodies, answers, streams and every error a route can give."""

from collections.abc import Iterable
from typing import Any, Literal, get_args

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from service.access.api_keys import Scope
from service.core import errors
from service.http.schemas.a1111 import OptionsRequest, Txt2ImgRequest, Txt2ImgResponse
from service.http.schemas.chat import ChatDelta, ChatRequest
from service.http.schemas.conversations import ConversationResponse
from service.http.schemas.errors import ErrorResponse
from service.http.schemas.jobs import JobList, JobResponse
from service.http.schemas.moderations import ModerationRequest, ModerationResponse
from service.http.schemas.openai.batches import BatchCreateRequest, BatchList, BatchObject
from service.http.schemas.openai.chat_completions import ChatCompletion, ChatCompletionChunk, ChatCompletionRequest
from service.http.schemas.openai.files import DeletedFile, FileList, FileObject
from service.http.schemas.openai.images import ImageGenerationRequest, ImagesResponse
from service.http.schemas.openai.models import ModelCard, ModelList
from service.http.schemas.openai.responses import ResponseObject, ResponseRequest
from service.http.schemas.paint import PaintRequest
from service.http.schemas.usage import UsageResponse
from service.jobs import answers as job_answers

_REFERENCE = "#/components/schemas/{name}"
_ANSWERS = (
    job_answers.ChatResponse,
    job_answers.PaintResponse,
    ConversationResponse,
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
    FileObject,
    FileList,
    DeletedFile,
    BatchObject,
    BatchList,
    ErrorResponse,
)
_REQUESTS = (
    ChatRequest,
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
_OF_WAITING: list[dict[str, Any]] = [
    {
        "name": "Idempotency-Key",
        "in": "header",
        "schema": {"type": "string", "minLength": 1, "maxLength": 255},
        "description": "Sent again with the same body, the request gets the answer of the first one.",
    },
    {
        "name": "async",
        "in": "query",
        "schema": {"type": "boolean"},
        "description": "As `Prefer: respond-async`: the answer is 202 with the job's id.",
    },
]
# Statuses of any request that carries a body and becomes a job
_JOB_ERRORS = (400, 408, 409, 413, 415, 422, 429, 500, 503, 504)


def _reference(name: str) -> dict[str, str]:
    return {"$ref": _REFERENCE.format(name=name)}


CHAT_BODY = {
    "required": True,
    "content": {
        "application/json": {"schema": _reference("ChatRequest")},
        "multipart/form-data": {
            "schema": {
                "allOf": [_reference("ChatRequest")],
                "properties": {"image": {"type": "string", "contentMediaType": "application/octet-stream"}},
                "description": "The same fields as text, and the picture as the file `image`.",
            }
        },
    },
}
PAINT_BODY = {"required": True, "content": {"application/json": {"schema": _reference("PaintRequest")}}}
IMAGES_BODY = {
    "required": True,
    "content": {
        "application/json": {
            "schema": _reference("ImageGenerationRequest"),
            "example": {"model": "gpt-image-1", "prompt": "雪山下的红色小屋", "size": "1024x1024", "seed": 7},
        }
    },
}
TXT2IMG_BODY = {
    "required": True,
    "content": {
        "application/json": {
            "schema": _reference("Txt2ImgRequest"),
            "example": {"prompt": "a red apple", "steps": 25, "sampler_name": "DPM++ 2M", "seed": -1},
        }
    },
}
OPTIONS_BODY = {
    "required": True,
    "content": {
        "application/json": {
            "schema": _reference("OptionsRequest"),
            "example": {"sd_model_checkpoint": "viscpm-paint"},
        }
    },
}
MODERATION_BODY = {"required": True, "content": {"application/json": {"schema": _reference("ModerationRequest")}}}

_PICTURE = "data:image/png;base64,…"
CHAT_COMPLETION_BODY = {
    "required": True,
    "content": {
        "application/json": {
            "schema": _reference("ChatCompletionRequest"),
            "example": {
                "model": "gpt-4o",
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "image_url", "image_url": {"url": _PICTURE}},
                            {"type": "text", "text": "What is in the picture?"},
                        ],
                    }
                ],
            },
        }
    },
}
BATCH_BODY = {
    "required": True,
    "content": {
        "application/json": {
            "schema": _reference("BatchCreateRequest"),
            "example": {
                "input_file_id": "file-…",
                "endpoint": "/v1/chat/completions",
                "completion_window": "24h",
                "metadata": {"order": "4711"},
            },
        }
    },
}
RESPONSE_BODY = {
    "required": True,
    "content": {
        "application/json": {
            "schema": _reference("ResponseRequest"),
            "example": {"model": "gpt-4o", "input": "它是什么颜色？", "previous_response_id": "resp_…_1"},
        }
    },
}


def documented(
    answer: type[msgspec.Struct] | None,
    *,
    body: dict[str, Any] | None = None,
    stream: bool = False,
    may_wait: bool = False,
    makes_job: bool = False,
    pictures: bool = False,
    plain: bool = False,
    text: bool = False,
    lines: bool = False,
    statuses: Iterable[int] = (),
    access: Access = "admin",
) -> dict[str, Any]:
    """Arguments of a route's decorator.

    Args:
        access: what a request needs where the service asks for keys.
        statuses: of errors, beyond 400 and 500 and those of jobs.
        answer: of the 200; None for none, and then 204 unless the 200 is a stream, `plain` JSON `text` or JSON `lines`.
        makes_job: so it can fail as jobs do.
        may_wait: a job is made, and `Prefer: respond-async` gives 202.
    """
    content: dict[str, Any] = {}
    if answer is not None:
        content["application/json"] = {"schema": _reference(answer.__name__)}
    if pictures:
        binary = {"schema": {"type": "string", "contentMediaType": "image/*"}}
        content |= {f"image/{name}": binary for name in ("png", "jpeg", "webp")}
    if stream:
        content["text/event-stream"] = {"schema": {"type": "string"}}
    if plain:
        content["application/json"] = {"schema": {"type": "object"}}
    if text:
        content["text/plain"] = {"schema": {"type": "string"}}
    if lines:
        content["application/jsonl"] = {"schema": {"type": "string"}}
    status = 200 if content else 204
    responses: dict[int | str, dict[str, Any]] = {status: {"description": "Success", "content": content}}
    if may_wait:
        responses[202] = {
            "description": "Accepted: `Prefer: respond-async` or `?async=true` was sent",
            "content": {"application/json": {"schema": _reference("JobResponse")}},
            "headers": {"location": {"schema": {"type": "string"}}},
        }
    of_route = _JOB_ERRORS if may_wait or makes_job else (400, 500)
    of_key = () if access == "open" else _KEY_ERRORS
    responses |= {code: _error(code) for code in sorted({*statuses, *of_route, *of_key})}
    extra: dict[str, Any] = {"security": _security(access)} | ({"requestBody": body} if body is not None else {})
    if may_wait:
        extra["parameters"] = [*_OF_WAITING, _DEADLINE]
    elif makes_job:
        extra["parameters"] = [_DEADLINE]
    return {"response_model": None, "status_code": status, "responses": responses, "openapi_extra": extra}


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
        components[model.__name__] = schema
    for path in document["paths"].values():
        for operation in path.values():
            if _is_fastapis(operation["responses"].get("422")):  # where ours are 400
                del operation["responses"]["422"]
    for unused in ("HTTPValidationError", "ValidationError"):
        components.pop(unused, None)
    document["components"]["securitySchemes"] = _SCHEMES
    document["components"]["schemas"] = dict(sorted(components.items()))
    return document


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
