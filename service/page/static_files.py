"""The page's files as they are served: read once, each with its media type and its entity tag.

The page is static: no build step, no other host. `static/index.html` and `static/docs.html` name the other files below
a version, the digest of all of them, so that these may be kept for good. What is stored compressed (Swagger UI, which
is read by those alone who look up the API) ends in `.gz`; other texts are compressed here, to a third of their size.
A document asks for all modules of the page at once: otherwise a browser learns of each only by reading another.
"""

import gzip
import hashlib
import re
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent / "static"
MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
}
_COMPRESSED = ".gz"
_TEXTS = {".css", ".js", ".svg"}
_IMPORT = re.compile(r'^import .* from "\./([\w./-]+)";$', re.MULTILINE)


class StaticFile(NamedTuple):
    """`data` is gzip's where `is_gzip`; `plain` is what comes of it."""

    data: bytes
    media_type: str
    etag: str
    is_gzip: bool = False

    @property
    def plain(self) -> bytes:
        return gzip.decompress(self.data) if self.is_gzip else self.data


class StaticFiles:
    """All files that a browser may ask for, by their path below the folder.

    Files of other kinds (such as the record of what is vendored) are no part of the page.
    """

    def __init__(self, folder: Path = FOLDER) -> None:
        self._files: dict[str, StaticFile] = {}
        digest = hashlib.sha256()
        for path in sorted(folder.rglob("*")):
            is_gzip = path.suffix == _COMPRESSED
            name = path.relative_to(folder).as_posix().removesuffix(_COMPRESSED)
            media_type = MEDIA_TYPES.get(Path(name).suffix)
            if media_type is None or not path.is_file():
                continue
            data = path.read_bytes()
            etag = _etag(data)
            digest.update(f"{name}\n{len(data)}\n".encode() + data)
            if path.suffix in _TEXTS:
                data, is_gzip = gzip.compress(data, mtime=0), True
            self._files[name] = StaticFile(data, media_type, etag, is_gzip)
        self.version = digest.hexdigest()[:16]
        self.modules = self._imported_by("app.js")

    def find(self, name: str) -> StaticFile | None:
        return self._files.get(name)

    def names(self) -> list[str]:
        return list(self._files)

    def document(self, name: str, base: str) -> StaticFile:
        """An HTML file whose addresses are relative to `base`. Raises KeyError."""
        preloads = "\n".join(f'<link rel="modulepreload" href="ui/{{version}}/{module}">' for module in self.modules)
        text = self._files[name].data.decode().replace("{modules}", preloads)
        data = text.replace("{base}", base).replace("{version}", self.version).encode()
        return StaticFile(data, MEDIA_TYPES[".html"], _etag(data))

    def _imported_by(self, first: str) -> list[str]:
        """What a module imports, and what that does in turn, nearest first."""
        found = [first]
        for name in found:
            file = self._files.get(name)
            imported = _IMPORT.findall(file.plain.decode()) if file else []
            found += [other for other in imported if other not in found]
        return found[1:]


def _etag(data: bytes) -> str:
    return f'"{hashlib.sha256(data).hexdigest()[:32]}"'
