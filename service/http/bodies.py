"""Request bodies: JSON or a form, by Content-Type, into the checked request."""

import codecs
import re
from collections.abc import Collection
from typing import TypeVar

import msgspec
from pydantic import ValidationError
from starlette.requests import ClientDisconnect, Request

from service.core.errors import Cancelled, InvalidRequest, UnsupportedMedia
from service.core.settings import Settings
from service.http.error_handlers import from_validation
from service.http.forms import read_form
from service.http.schemas.chat import ChatRequest
from service.http.schemas.requests import Request as RequestBody
from service.http.schemas.requests import integers

_Body = TypeVar("_Body", bound=RequestBody)

_COMMAS_OF_FIELDS = 64  # that a JSON body has beside those of its texts

_MAX_FIELDS = 256  # of a body that may have unknown ones

_EXPONENT = re.compile(r"[+-]?\d{1,16}(\.\d{0,16})?[eE]\+?\d{1,2}")

# By its mark, or by its first brace, which is ASCII in every object; UTF-32 first: its mark begins with another's
_OTHER_FORMS = {
    "UTF-32": re.compile(rb"\xff\xfe\0\0|\0\0\xfe\xff|\0\0\0[^\0]|[^\0]\0\0\0", re.DOTALL),
    "UTF-16": re.compile(rb"\xff\xfe|\xfe\xff|\0[^\0]|[^\0]\0", re.DOTALL),
}

_members = msgspec.json.Decoder(dict[str, msgspec.Raw])


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
    try:
        texts, upload = await read_form(request)
    except ClientDisconnect:
        raise Cancelled("the client went away before its request was read") from None
    try:
        # Form fields are text: numbers and switches are parsed
        fields: dict[str, object] = dict(texts)
        fields |= {name: _whole(texts[name]) for name in integers(ChatRequest).intersection(texts)}
        if "include" in texts:
            fields["include"] = [name.strip() for name in texts["include"].split(",")]
        _require_known(ChatRequest, texts)
        return ChatRequest.model_validate(fields, strict=False, context=settings), upload
    except ValidationError as error:
        raise from_validation(error) from None


def _whole(text: str) -> str:
    """A whole number with an exponent as one without, which alone is parsed."""
    if not _EXPONENT.fullmatch(text) or not float(text).is_integer():
        return text
    return str(int(float(text)))


def _validated(model: type[_Body], body: bytes, settings: Settings) -> _Body:
    """The checked request.

    What is cheap to refuse is refused first: values by the million, or thousands of unknown fields, would keep the
    validation, and with it every other request, busy for minutes.
    """
    body = _in_utf_8(body)
    if not body.strip():
        raise InvalidRequest(f"body: is empty ({len(body)} bytes), a JSON object is needed")
    limit = model.max_texts * max(settings.max_question_chars, settings.max_prompt_chars) + _COMMAS_OF_FIELDS
    if _has_more_than(limit, b",", body):
        raise InvalidRequest(f"body: has more than {limit} commas, more than all its fields can need")
    try:
        names = _members.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        if _has_more_than(_COMMAS_OF_FIELDS, b",", body):
            raise InvalidRequest(f"body: not a JSON object: {error}") from None
        names = {}  # a short one: validation finds out what is wrong, and in which field
    _require_known(model, names)
    try:
        return model.model_validate_json(body, context=settings)
    except ValidationError as error:
        raise from_validation(error) from None


def _require_known(model: type[RequestBody], names: Collection[str]) -> None:
    """Raises InvalidRequest for what is no field; where such are taken, for too many of them."""
    if model.model_config.get("extra") != "forbid":
        if len(names) > _MAX_FIELDS:
            raise InvalidRequest(f"body: has {len(names)} fields, at most {_MAX_FIELDS} are read")
        return
    unknown = [name for name in names if name not in model.model_fields]
    if unknown:
        more = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
        raise InvalidRequest(
            f"{unknown[0][:80]}: unknown field{more}; allowed: {', '.join(model.model_fields)}", param=unknown[0][:80]
        )


def _in_utf_8(body: bytes) -> bytes:
    """Without the mark that some write before it. Raises InvalidRequest where it is in another form of Unicode."""
    if body.startswith(codecs.BOM_UTF8):
        return body[len(codecs.BOM_UTF8) :]
    for name, begins in _OTHER_FORMS.items():
        if begins.match(body):
            raise InvalidRequest(f"body: is in {name}, UTF-8 expected")
    return body


def _has_more_than(limit: int, byte: bytes, body: bytes) -> bool:
    """Counts by searching: base64 is passed over at the speed of memory."""
    position = -1
    for _ in range(limit + 1):
        position = body.find(byte, position + 1)
        if position < 0:
            return False
    return True


async def _body(request: Request) -> bytes:
    try:
        return b"".join([chunk async for chunk in request.stream()])
    except ClientDisconnect:
        raise Cancelled("the client went away before its request was read") from None


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _require(request: Request, *allowed: str) -> None:
    got = _media_type(request)
    if got not in allowed:
        raise UnsupportedMedia(f"Content-Type must be {' or '.join(allowed)}, got {got[:60] or 'none'}")
