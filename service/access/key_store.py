"""The API keys in Redis, one hash for all, and what each API process knows of them for some seconds."""

import time
from collections.abc import Callable

import msgspec

from service.access.api_keys import NOBODY, ApiKey, KeyChange, KeyLimits, Scope, id_in, new_key_id, new_text
from service.core.errors import InvalidApiKey
from service.core.settings import Settings
from service.redis.connection import RedisConnection, RedisServers
from service.redis.keys import Keys

_UNLIMITED = KeyLimits()
_MAX_KNOWN = 4096  # ids, those of no key included
_REFUSED = "the API key is wrong, has expired or was revoked; send one as `Authorization: Bearer vk-…` or `x-api-key`"


class KeyStore:
    """Every call raises BusUnavailable where Redis does not serve it."""

    def __init__(self, redis: RedisServers, settings: Settings) -> None:
        self._connection = RedisConnection(redis)
        self._hash = Keys(settings.redis_prefix).api_keys

    async def close(self) -> None:
        await self._connection.close()

    async def create(
        self,
        name: str,
        tenant: str,
        scopes: tuple[Scope, ...],
        lifetime_s: int = 0,
        models: tuple[str, ...] = (),
        limits: KeyLimits = _UNLIMITED,
        weight: int = 1,
    ) -> tuple[ApiKey, str]:
        """A new key and its text, which is nowhere stored. `lifetime_s` 0: it does not expire."""
        key_id, now = new_key_id(), int(time.time())
        text, sha256 = new_text(key_id)
        expires = now + lifetime_s if lifetime_s else 0
        key = ApiKey(key_id, name, tenant, scopes, sha256, now, expires, models=models, limits=limits, weight=weight)
        await self._write(key)
        return key, text

    async def all(self) -> list[ApiKey]:
        """Oldest first, the revoked ones too."""
        stored = await self._connection.send("HGETALL", self._hash)
        return sorted(map(_decoder.decode, stored.values()), key=lambda key: (key.created, key.id))

    async def find(self, key_id: str) -> ApiKey | None:
        stored = await self._connection.send("HGET", self._hash, key_id)
        return None if stored is None else _decoder.decode(stored)

    async def revoke(self, key_id: str) -> ApiKey | None:
        """None: there is no such key."""
        revoked_s = int(time.time())
        return await self._replace(
            key_id, lambda key: key if key.revoked else msgspec.structs.replace(key, revoked=revoked_s)
        )

    async def rotate(self, key_id: str, overlap_s: int = 0) -> tuple[ApiKey, str] | None:
        """The key with a new text; the one before is taken for `overlap_s` more. None: there is no such live key."""
        now, new = int(time.time()), new_text(key_id)

        def rotated(key: ApiKey) -> ApiKey | None:
            if not key.is_live(now):
                return None
            former, until = (key.sha256, now + overlap_s) if overlap_s else (b"", 0)
            return msgspec.structs.replace(key, sha256=new.sha256, former_sha256=former, former_until=until)

        key = await self._replace(key_id, rotated)
        return None if key is None else (key, new.text)

    async def change(self, key_id: str, change: KeyChange) -> ApiKey | None:
        """The key as it is from now on; one that has expired may live again. None: there is none, or it is revoked."""
        return await self._replace(key_id, lambda key: None if key.revoked else change.of(key))

    async def _replace(self, key_id: str, replaced: Callable[[ApiKey], ApiKey | None]) -> ApiKey | None:
        """Write what becomes of a key, read anew where others were faster. None: there is none, or it stays."""
        while (stored := await self._connection.send("HGET", self._hash, key_id)) is not None:
            key = replaced(_decoder.decode(stored))
            if key is None:
                return None
            written = await self._connection.transition(
                "api_key_replace", (self._hash,), key_id, stored, _encoder.encode(key)
            )
            if written:
                return key
        return None

    async def _write(self, key: ApiKey) -> None:
        await self._connection.send("HSET", self._hash, key.id, _encoder.encode(key))


class KnownKeys:
    """The keys that this process was shown lately: what Redis said of an id is believed for VISCPM_KEY_CACHE_S.

    Args:
        clock: of the monotonic seconds for which an id is known.
    """

    def __init__(self, store: KeyStore, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._cache_s = settings.key_cache_s
        self._clock = clock
        self._known: dict[str, tuple[ApiKey | None, float]] = {}  # by id, with the time until which it is believed

    async def all(self) -> list[ApiKey]:
        """As KeyStore.all."""
        return await self._store.all()

    async def authenticate(self, text: str) -> ApiKey:
        """The key whose text this is. Raises InvalidApiKey, BusUnavailable."""
        key_id, now = id_in(text), time.time()
        key = await self._find(key_id) if key_id else None
        is_right = (key or NOBODY).has_text(text, now)
        if key is None or not is_right or not key.is_live(now):
            raise InvalidApiKey(_REFUSED)
        return key

    async def live(self, key_id: str) -> ApiKey:
        """The key of this id, for what was asked with it before. Raises InvalidApiKey, BusUnavailable."""
        key = await self._find(key_id)
        if key is None or not key.is_live(time.time()):
            raise InvalidApiKey(f"the API key {key_id or 'that is needed'} has expired or was revoked, or never was")
        return key

    async def _find(self, key_id: str) -> ApiKey | None:
        found = self._known.get(key_id)
        if found is not None and self._clock() < found[1]:
            return found[0]
        key = await self._store.find(key_id)
        self._known.pop(key_id, None)
        while len(self._known) >= _MAX_KNOWN:
            del self._known[next(iter(self._known))]
        self._known[key_id] = key, self._clock() + self._cache_s
        return key


_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[ApiKey] = msgspec.msgpack.Decoder(ApiKey)
