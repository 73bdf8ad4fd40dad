"""Who asks: the API key of a request, and whether its route lets it in. Before anything else of a request is read.

What a route asks for stands in its description (`documented`, openapi.py): nothing (`open`), a key, or one of a scope.
A route that says nothing asks for `admin`.
"""

from base64 import b64decode

from fastapi import Request

from models.jobs import Model
from service.access.api_keys import ApiKey
from service.core.current_request import note_key
from service.core.errors import InsufficientScope, InvalidApiKey
from service.http.dependencies import CALLER, ApiState, Caller, caller_of, state_of
from service.http.openapi import access_of

_MISSING = "an API key is needed here, as `Authorization: Bearer vk-…` or `x-api-key`"


async def authenticate(request: Request) -> None:
    """A dependency of all routes, where keys are asked for.

    Raises InvalidApiKey, InsufficientScope, RateLimited where too many wrong keys are presented, BusUnavailable.
    """
    access = access_of(request.scope["route"])
    if access == "open":
        return
    state = state_of(request)
    asked: Caller | None = request.scope.get(CALLER)  # of what the service asks itself: a line of a batch
    key = await _presented_key(request, state) if asked is None else asked.key
    if key is None:
        raise InvalidApiKey(_MISSING, is_missing=True)
    note_key(key.id)
    if access != "any" and not key.may(access):
        state.metrics.count("auth_refusals_total", reason="scope")
        raise InsufficientScope(f"this needs a key with the scope {access}, and this one has {', '.join(key.scopes)}")
    request.scope[CALLER] = asked or Caller(key.tenant, key)


def require_model(request: Request, state: ApiState, kind: Model) -> None:
    """Raises InsufficientScope where the request's key may not ask this model."""
    key = caller_of(request).key
    if key is None or not key.models:
        return
    described = state.registry.model(kind)
    if not key.may_ask(kind, "" if described is None else described.name):
        raise InsufficientScope(f"this key may ask {', '.join(key.models)}, and not the {kind} model of this service")


async def _presented_key(request: Request, state: ApiState) -> ApiKey:
    """The key whose text the request brings. Raises InvalidApiKey, RateLimited, BusUnavailable."""
    text = _presented(request)
    if not text:
        state.metrics.count("auth_refusals_total", reason="missing")
        raise InvalidApiKey(_MISSING, is_missing=True)
    try:
        return await state.keys.authenticate(text)
    except InvalidApiKey:
        state.metrics.count("auth_refusals_total", reason="wrong")
        await state.wrong_keys.slow_down(str(request.client.host) if request.client else "")
        raise


def _presented(request: Request) -> str:
    """The key of `Authorization` or of `x-api-key`; empty: none. A1111's clients send it as a password (RFC 7617)."""
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and text.strip():
        return text.strip()
    if scheme.lower() == "basic" and text.strip():
        try:
            return b64decode(text.strip(), validate=True).decode().partition(":")[2]
        except ValueError:
            return text.strip()  # no key's text: it is refused as a wrong one
    return request.headers.get("x-api-key", "").strip()
