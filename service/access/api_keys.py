"""API keys: what a key is, what it may do, and how one is told from a wrong one.

A key is `vk-`, the id by which it is found, and 32 random bytes. Only the SHA-256 of the whole is stored: with that
many random bits nothing is gained by a slow hash, and whoever reads the store can ask nothing.
"""

import hashlib
import re
import secrets
from hmac import compare_digest
from typing import Literal, NamedTuple, get_args

import msgspec

Scope = Literal["chat", "paint", "moderate", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)

NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")  # of a tenant: no colon, which parts the names of keys in Redis
_TEXT = re.compile(r"vk-([0-9a-f]{12})-[A-Za-z0-9_-]{43}")
_NOBODYS = bytes(32)  # the digest of no text that anybody knows


class KeyLimits(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a key may use; 0: as much as there is."""

    requests_per_min: int = 0
    tokens_per_min: int = 0
    max_jobs: int = 0  # queued and running at once

    @property
    def are_none(self) -> bool:
        return not (self.requests_per_min or self.tokens_per_min or self.max_jobs)


class ApiKey(msgspec.Struct, frozen=True, omit_defaults=True):
    """A key as it is stored. Times are Unix seconds, 0: never."""

    id: str
    name: str
    tenant: str
    scopes: tuple[Scope, ...]
    sha256: bytes
    created: int
    expires: int = 0
    revoked: int = 0
    models: tuple[str, ...] = ()  # that it may ask, by kind or by name; empty: all
    limits: KeyLimits = KeyLimits()
    weight: int = 1  # of its tenant's share where tenants share a queue
    former_sha256: bytes = b""  # of the text before the last rotation
    former_until: int = 0

    def may(self, scope: Scope) -> bool:
        """`admin` may everything."""
        return scope in self.scopes or "admin" in self.scopes

    def may_ask(self, kind: str, name: str) -> bool:
        return not self.models or kind in self.models or name in self.models

    def is_live(self, now: float) -> bool:
        return not self.revoked and (not self.expires or now < self.expires)

    def has_text(self, text: str, now: float) -> bool:
        """Whether this is the key's text. Takes as long for a wrong one as for the right one."""
        digest = digest_of(text)
        is_current = compare_digest(digest, self.sha256)
        is_former = compare_digest(digest, self.former_sha256 or _NOBODYS)
        return is_current or (is_former and bool(self.former_sha256) and now < self.former_until)


class KeyChange(msgspec.Struct, frozen=True):
    """What is changed of a key; what is None stays. `expires` is Unix seconds, 0: never."""

    name: str | None = None
    scopes: tuple[Scope, ...] | None = None
    models: tuple[str, ...] | None = None
    expires: int | None = None
    requests_per_min: int | None = None
    tokens_per_min: int | None = None
    max_jobs: int | None = None
    weight: int | None = None

    def of(self, key: ApiKey) -> ApiKey:
        """The key as it is afterwards."""
        changed = {name: value for name, value in msgspec.structs.asdict(self).items() if value is not None}
        limits = {name: changed.pop(name) for name in KeyLimits.__struct_fields__ if name in changed}
        return msgspec.structs.replace(key, **changed, limits=msgspec.structs.replace(key.limits, **limits))


class NewText(NamedTuple):
    """A key's text, which is shown once, and what is stored of it."""

    text: str
    sha256: bytes


def new_key_id() -> str:
    return secrets.token_hex(6)


def new_text(key_id: str) -> NewText:
    text = f"vk-{key_id}-{secrets.token_urlsafe(32)}"
    return NewText(text, digest_of(text))


def id_in(text: str) -> str:
    """The id that a presented text names; empty: it is no key's text."""
    match = _TEXT.fullmatch(text)
    return "" if match is None else match[1]


def digest_of(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


# What a text is compared with that names no key, so that its answer comes no sooner
NOBODY = ApiKey("", "", "", (), _NOBODYS, 0)
