"""Files in Redis: what clients upload for batches, and what batches write. Each is a list of lines, kept byte for byte.

The server evicts nothing, and neither do these: a file that exceeds the budgets is refused.
"""

import io
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import NamedTuple

from service.batches.paging import Page, read_page
from service.core.errors import ContentTooLarge, FileInUse, FileNotFound, InvalidRequest, StorageFull, Unavailable
from service.core.settings import Settings
from service.redis.connection import RedisConnection, RedisServers
from service.redis.keys import Keys

FILE_BYTES = 512  # what Redis keeps beside a file's lines
_WRITE_BYTES, _WRITE_LINES = 1 << 20, 512  # of a file, in one command
_READ_LINES = 16  # of which each may hold a picture
_WRITE_LIMIT_S = 60  # for all lines of an upload; then its room is free again
_SWEPT_AT_ONCE = 64


class StoredFile(NamedTuple):
    """What is known of a file. Times are Unix seconds."""

    id: str
    name: str
    purpose: str
    size_bytes: int
    created: int
    expires: int


class Files:
    """Every call raises BusUnavailable where Redis does not serve it; those of a file FileNotFound."""

    def __init__(self, redis: RedisServers, settings: Settings) -> None:
        self._connection = RedisConnection(redis)
        self._keys = Keys(settings.redis_prefix)
        self._settings = settings

    async def close(self) -> None:
        await self._connection.close()

    async def put(self, tenant: str, name: str, purpose: str, content: bytes, ttl_s: int) -> StoredFile:
        """Keep an uploaded file. Raises InvalidRequest for too many lines, ContentTooLarge, StorageFull."""
        num_lines, max_lines = content.count(b"\n"), self._settings.batch_max_lines
        if num_lines > max_lines:
            raise InvalidRequest(f"file: has {num_lines} lines, at most {max_lines} are allowed", param="file")
        file_id = f"file-{secrets.token_urlsafe(18)}"
        keys, member = self._keys.of_file(tenant, file_id), f"{tenant}:{file_id}"
        await self._take_room(keys, member, tenant, len(content) + FILE_BYTES)
        for lines in _pieces(io.BytesIO(content).readlines()):
            await self._connection.send("RPUSH", keys[4], *lines)
        made = await self._connection.transition(
            "file_ready", keys, member, file_id, name, purpose, len(content), ttl_s * 1000
        )
        if made is None:
            raise Unavailable(f"the file could not be written within {_WRITE_LIMIT_S} s; try again")
        created, expires = (int(time_ms) // 1000 for time_ms in made)
        return StoredFile(file_id, name, purpose, len(content), created, expires)

    async def get(self, tenant: str, file_id: str) -> StoredFile:
        found = await self._read(tenant, file_id)
        if found is None:
            raise FileNotFound(f"no file {file_id[:64]!r}: it never was, was deleted, or has expired")
        return found

    async def page(self, tenant: str, limit: int, after: str, is_newest_first: bool = True) -> Page[StoredFile]:
        """Those after the file `after`; empty: from the first on."""
        index = self._keys.tenant_files(tenant)
        ids, has_more = await read_page(self._connection, index, limit, after, is_newest_first)
        if ids is None:
            raise FileNotFound(f"after: no file {after[:64]!r}: it never was, or it is not listed any more")
        found = [await self._read(tenant, file_id) for file_id in ids]
        return Page([one for one in found if one is not None], has_more, ids[-1] if ids else None)

    async def lines(self, tenant: str, file_id: str) -> AsyncIterator[bytes]:
        """What the file holds, in pieces of whole lines."""
        key, start = self._keys.of_file(tenant, file_id)[4], 0
        while lines := await self._connection.send("LRANGE", key, start, start + _READ_LINES - 1):
            yield b"".join(lines)
            start += len(lines)

    async def content(self, tenant: str, file_id: str) -> list[bytes]:
        """All lines of the file."""
        lines: list[bytes] = await self._connection.send("LRANGE", self._keys.of_file(tenant, file_id)[4], 0, -1)
        return lines

    async def line(self, tenant: str, file_id: str, number: int) -> bytes | None:
        """The line at `number`, from 0 on; None: it is not there."""
        line: bytes | None = await self._connection.send("LINDEX", self._keys.of_file(tenant, file_id)[4], number)
        return line

    async def delete(self, tenant: str, file_id: str) -> None:
        """Raises FileInUse."""
        deleted = await self._delete(tenant, file_id)
        if deleted == 0:
            raise FileNotFound(f"no file {file_id[:64]!r}: it never was, was deleted, or has expired")
        if deleted < 0:
            raise FileInUse(f"the file {file_id!r} is read by a batch that has not ended; cancel that one first")

    async def sweep(self) -> int:
        """Delete what has expired, or was never written to its end; how many."""
        seconds, microseconds = await self._connection.send("TIME")
        now_ms = int(seconds) * 1000 + int(microseconds) // 1000
        members = await self._connection.send(
            "ZRANGE", self._keys.files, "-inf", now_ms, "BYSCORE", "LIMIT", 0, _SWEPT_AT_ONCE
        )
        swept = 0
        for member in members:
            tenant, _, file_id = member.decode().partition(":")
            swept += await self._delete(tenant, file_id, is_sweep=True) > 0
        return swept

    async def _take_room(self, keys: Sequence[str], member: str, tenant: str, size_bytes: int) -> None:
        all_bytes, tenant_bytes = self._settings.file_bytes, self._settings.tenant_file_bytes
        if size_bytes > min(all_bytes, tenant_bytes):
            raise ContentTooLarge(
                f"file: takes {size_bytes} bytes, and all files of a tenant may take {min(all_bytes, tenant_bytes)} "
                "(VISCPM_FILE_BYTES, VISCPM_TENANT_FILE_BYTES)"
            )
        found = await self._connection.transition(
            "file_begin", keys, member, tenant, size_bytes, all_bytes, tenant_bytes, _WRITE_LIMIT_S * 1000
        )
        if found != b"ok":
            whose = f"your files may take {tenant_bytes}" if found == b"tenant" else f"all files may take {all_bytes}"
            raise StorageFull(f"file: has no room for its {size_bytes} bytes, {whose}; delete files, or wait")

    async def _read(self, tenant: str, file_id: str) -> StoredFile | None:
        """None: it is not there, or not yet."""
        key = self._keys.of_file(tenant, file_id)[3]
        told = await self._connection.send("HMGET", key, "name", "purpose", "size", "created_ms", "expires_ms")
        name, purpose, size, created_ms, expires_ms = told
        if created_ms is None:
            return None
        created, expires = int(created_ms) // 1000, int(expires_ms) // 1000
        return StoredFile(file_id, name.decode(), purpose.decode(), int(size), created, expires)

    async def _delete(self, tenant: str, file_id: str, is_sweep: bool = False) -> int:
        """1; 0: there is none to delete; -1: a batch reads it."""
        deleted: int = await self._connection.transition(
            "file_delete",
            self._keys.of_file(tenant, file_id),
            f"{tenant}:{file_id}",
            tenant,
            file_id,
            int(is_sweep),
        )
        return deleted


def _pieces(lines: Sequence[bytes]) -> Iterator[list[bytes]]:
    """The lines, as many at once as one command may carry."""
    piece: list[bytes] = []
    size_bytes = 0
    for line in lines:
        if piece and (size_bytes + len(line) > _WRITE_BYTES or len(piece) == _WRITE_LINES):
            yield piece
            piece, size_bytes = [], 0
        piece.append(line)
        size_bytes += len(line)
    if piece:
        yield piece
