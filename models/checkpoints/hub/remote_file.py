"""A published file as a source tells of it before it is fetched, and what a source has to answer."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Protocol

_SHA256_DIGITS = 64
_SHA1_DIGITS = 40
_READ_BYTES = 2**22


@dataclass(frozen=True)
class RemoteFile:
    """Args:
    digest: SHA-256, or git's SHA-1 of small files, in hexadecimal digits; empty: the source tells none.
    url: where it is transferred from, by requests with `headers`; empty for a file of this machine.
    path: of a file of this machine.
    """

    size_bytes: int
    digest: str = ""
    url: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    path: Path | None = None

    def mismatch(self, file: Path) -> str:
        """How a file's content differs from the published one; empty where it does not."""
        size_bytes = file.stat().st_size
        if size_bytes != self.size_bytes:
            return f"{size_bytes:,} bytes instead of {self.size_bytes:,}"
        if len(self.digest) == _SHA256_DIGITS:
            found = _hexdigest(file, hashlib.sha256())
        elif len(self.digest) == _SHA1_DIGITS:
            found = _hexdigest(file, hashlib.sha1(f"blob {size_bytes}\0".encode(), usedforsecurity=False))
        else:
            return ""
        return "" if found == self.digest else f"checksum {found[:16]}… instead of {self.digest[:16]}…"


class Source(Protocol):
    """A hub, a mirror or a folder. Whatever goes wrong there is raised, as any exception."""

    @property
    def name(self) -> str:
        """An address, or a folder."""

    def find(self, repository: str, file: str, revision: str | None) -> RemoteFile:
        """What is published under this name; `revision` None is the source's own usual one."""

    def names(self, repository: str, revision: str | None) -> list[str]:
        """Of all files in a repository, as `checked_name` lets them pass."""


def checked_name(name: str) -> str:
    """A file's name in a repository, by which it is written here. Raises ValueError where it would lead elsewhere."""
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
        raise ValueError(f"{name!r} is no name of a file in a repository")
    return name


def _hexdigest(file: Path, digest: "hashlib._Hash") -> str:
    with file.open("rb") as opened:
        while block := opened.read(_READ_BYTES):
            digest.update(block)
    return digest.hexdigest()
