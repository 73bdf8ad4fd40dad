"""Request bodies: JSON or a form, by Content-Type, into the checked request."""

from typing import TypeVar

from pydantic import ValidationError
from starlette.datastructures import FormData
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from service.errors import Cancelled, InvalidRequest, UnsupportedMedia, from_validation
from service.schemas import ChatRequest
from service.schemas import Request as RequestBody
from service.settings import Settings

_Body = TypeVar("_Body", bound=RequestBody)

_MAX_FIELDS = 32


async def read_json(request: Request, model: type[_Body], settings: Settings) -> _Body:
    """Raises InvalidRequest naming the field, UnsupportedMedia."""
    _require(request, "application/json")
    return _validated(model, await _body(request), settings)


async def read_chat(request: Request, settings: Settings) -> tuple[ChatRequest, bytes | None]:
    """The request, and the picture's bytes where they were uploaded.

    Raises InvalidRequest naming the field, UnsupportedMedia.
    """
    if _media_type(request) != "multipart/form-data":
        _require(request, "application/json", "multipart/form-data")
        return _validated(ChatRequest, await _body(request), settings), None
    fields: dict[str, str] = {}
    upload: bytes | None = None
    form = await _form(request, settings)
    try:
        for name, value in form.multi_items():
            if name in fields or (name == "image" and upload is not None):
                raise InvalidRequest(f"{name}: is given twice", param=name)
            if isinstance(value, str):
                fields[name] = value
            elif name == "image":
                upload = await value.read()
            else:
                raise InvalidRequest(f"{name}: only the field image takes a file", param=name)
    finally:
        await form.close()
    try:
        # Form fields are text: numbers and switches are parsed
        return ChatRequest.model_validate(fields, strict=False, context=settings), upload
    except ValidationError as error:
        raise from_validation(error) from None


def _validated(model: type[_Body], body: bytes, settings: Settings) -> _Body:
    try:
        return model.model_validate_json(body, context=settings)
    except ValidationError as error:
        raise from_validation(error) from None


async def _body(request: Request) -> bytes:
    try:
        return b"".join([chunk async for chunk in request.stream()])
    except ClientDisconnect:
        raise Cancelled("the client went away before its request was read") from None


async def _form(request: Request, settings: Settings) -> FormData:
    limit_bytes = settings.max_body_bytes
    parser = MultiPartParser(
        request.headers, request.stream(), max_files=1, max_fields=_MAX_FIELDS, max_part_size=limit_bytes
    )
    parser.spool_max_size = limit_bytes + 1  # in memory: nothing of a request touches the disk
    try:
        return await parser.parse()
    except MultiPartException as error:
        raise InvalidRequest(f"body: not a readable form: {error.message}") from None
    except ValueError:  # such as a charset that is none
        raise InvalidRequest("body: not a readable form") from None
    except ClientDisconnect:
        raise Cancelled("the client went away before its request was read") from None


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _require(request: Request, *allowed: str) -> None:
    got = _media_type(request)
    if got not in allowed:
        raise UnsupportedMedia(f"Content-Type must be {' or '.join(allowed)}, got {got[:60] or 'none'}")
