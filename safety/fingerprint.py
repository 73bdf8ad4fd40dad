"""One short word for all that a screen's findings depend on: kept findings are used under the same one alone.

Covered: weights, configuration, the screen's own code with its preprocessing, the versions of the libraries that it
runs on. Too much changes it rather than too little: what is lost then is a cache.
Not covered: the device; a GPU rounds otherwise than a processor.
"""

import hashlib
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_SMALL_BYTES = 64 << 20  # files of a checkpoint's folder beside its weights: configuration, vocabulary


def fingerprint(code: str, packages: Sequence[str], parts: Iterable[bytes | memoryview]) -> str:
    """12 hexadecimal digits.

    Args:
        code: the screen's `__file__`.
        packages: distributions whose version counts; one that is not installed counts as such.
        parts: all else, in a fixed order.
    """
    digest = hashlib.sha256()
    _add(digest, Path(code).read_bytes())
    for name in packages:
        _add(digest, _release(name).encode())
    for part in parts:
        _add(digest, part)
    return digest.hexdigest()[:12]


def small_files(folder: Path) -> Iterable[bytes]:
    """Name and bytes of a checkpoint's files but the largest, whose tensors are told apart once they are loaded."""
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.stat().st_size <= _SMALL_BYTES:
            yield path.name.encode()
            yield path.read_bytes()


def _add(digest: "hashlib._Hash", part: bytes | memoryview) -> None:
    digest.update(b"%d:" % (part.nbytes if isinstance(part, memoryview) else len(part)))
    digest.update(part)


def _release(name: str) -> str:
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return f"{name} none"
