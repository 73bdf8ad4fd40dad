"""Pictures at addresses that expire: signed, so that any API process knows its service's own, and kept in Redis.

Only the pictures of a finished answer come here: judged, labelled, and in the format in which they leave. They keep to
a byte budget of their own, and the least recently fetched make room.
"""

import asyncio
import hashlib
import hmac
import secrets
import time
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from typing import NamedTuple

from service.core.errors import ImageNotFound, Unavailable
from service.core.settings import Settings
from service.redis.connection import RedisConnection, RedisServers
from service.redis.keys import Keys

_KEY_BYTES = 32
_ENTRY_BYTES = 300  # what Redis keeps beside a picture: its name in two places


class PictureLink(NamedTuple):
    """A picture's name, until when it may be fetched (Unix time in seconds), and the signature of both."""

    name: str
    expires: int
    signature: str


class PictureLinks:
    """Every call raises BusUnavailable where Redis does not serve it."""

    def __init__(self, redis: RedisServers, settings: Settings) -> None:
        self._connection = RedisConnection(redis)
        self._keys = Keys(settings.redis_prefix)
        self._budget_bytes = settings.image_url_bytes
        self._ttl_s = settings.image_url_ttl_s

    async def close(self) -> None:
        await self._connection.close()

    async def keep(self, pictures: Sequence[bytes], output_format: str) -> list[PictureLink]:
        """Store the pictures of a finished answer. Raises Unavailable for one that is larger than the whole budget."""
        key, expires = await self._key(), int(time.time()) + self._ttl_s
        names = [f"img-{secrets.token_urlsafe(18)}.{output_format}" for _ in pictures]
        if not all(await asyncio.gather(*map(self._put, names, pictures))):
            largest_bytes = max(map(len, pictures))
            raise Unavailable(
                f"a picture of {largest_bytes} bytes has no room at an address, {self._budget_bytes} bytes are all "
                "that may be kept (VISCPM_IMAGE_URL_BYTES)"
            )
        return [PictureLink(name, expires, _signature(key, name, expires)) for name in names]

    async def picture(self, link: PictureLink) -> bytes:
        """What is kept there. Raises ImageNotFound."""
        expected = _signature(await self._key(), link.name, link.expires)
        if not hmac.compare_digest(expected.encode(), link.signature.encode()):
            raise ImageNotFound("this service gave no such address: the signature is not of this picture and time")
        if link.expires <= time.time():
            raise ImageNotFound(f"the address expired at {link.expires} (Unix time), it now is {int(time.time())}")
        kept: bytes | None = await self._connection.transition(
            "cache_get", self._keys.linked_pictures, link.name, self._ttl_s * 1000
        )
        if kept is None:
            raise ImageNotFound("the picture is not kept any more: it made room for others (VISCPM_IMAGE_URL_BYTES)")
        return kept

    async def _put(self, name: str, data: bytes) -> bool:
        return bool(
            await self._connection.transition(
                "cache_put",
                self._keys.linked_pictures,
                name,
                data,
                self._budget_bytes,
                self._ttl_s * 1000,
                _ENTRY_BYTES,
            )
        )

    async def _key(self) -> bytes:
        """The same for all processes: the first one that needs it makes it, the others find it."""
        made = self._connection.send("SET", self._keys.link_key, secrets.token_bytes(_KEY_BYTES), "NX")
        key, _ = await asyncio.gather(self._connection.send("GET", self._keys.link_key), made)
        return bytes(key)


def _signature(key: bytes, name: str, expires: int) -> str:
    digest = hmac.digest(key, f"{name}:{expires}".encode(), hashlib.sha256)
    return urlsafe_b64encode(digest).rstrip(b"=").decode()
