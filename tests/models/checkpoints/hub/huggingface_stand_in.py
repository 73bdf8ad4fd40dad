"""A small stand-in for the Hugging Face hub: as much of its HTTP as fetching speaks, on a loopback port.

Large files (`.bin`, `.pt`, `.safetensors`) are named by SHA-256 and answered by a redirect to another path, small ones
by git's SHA-1 and directly, as the hub does.
"""

import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = (".bin", ".pt", ".safetensors")


@dataclass
class Hub:
    """What it holds, what it was asked, and how it misbehaves."""

    files: dict[str, bytes] = field(default_factory=dict)  # "owner/repository/file" -> content
    requests: list[tuple[str, str, str]] = field(default_factory=list)  # (method, path, Range header)
    credentials: list[str] = field(default_factory=list)
    break_after_bytes: int | None = None  # of the next large file; then 503 until it is None again
    stall_after_bytes: int | None = None  # of large files: the rest comes when `may_go_on` is set
    may_go_on: threading.Event = field(default_factory=threading.Event)
    tells_wrong_digest: bool = False
    tells_size_bytes: int | None = None  # of large files, instead of their own
    page_size: int = 1000  # of a repository's list
    url: str = ""
    handler: "type[HubHandler] | None" = None

    def __enter__(self) -> "Hub":
        self._server = ThreadingHTTPServer(
            ("127.0.0.1", 0), type("Handler", (self.handler or HubHandler,), {"hub": self})
        )
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.may_go_on.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def storage_url(self) -> str:
        """Another host, as far as its name tells: a client must not send it the hub's credentials."""
        return self.url.replace("127.0.0.1", "localhost")

    def ranges(self, file: str) -> list[str]:
        """Range headers of the transfers of one file, in order; empty for a whole transfer."""
        return [ranged for method, path, ranged in self.requests if method == "GET" and path.endswith(file)]


class HubHandler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, with_body: bool) -> None:
        hub = self.hub
        hub.requests.append((self.command, self.path, self.headers.get("Range", "")))
        if "Authorization" in self.headers:
            hub.credentials.append(self.path)
        path = urlsplit(self.path).path  # a proxy is asked for a whole URL
        if path.startswith("/api/models/"):
            self._tree(path.removeprefix("/api/models/").removesuffix("/tree/main"))
            return
        is_transfer = path.startswith("/storage/")
        name = path.removeprefix("/storage/").removeprefix("/").replace("/resolve/main/", "/")
        content = hub.files.get(name)
        if content is None:
            self._reply(404, {"X-Error-Code": "EntryNotFound"})
        elif not name.endswith(LARGE):
            headers = {"ETag": f'"{_git_digest(content)}"', "X-Repo-Commit": COMMIT}
            self._reply(200, headers, content if with_body else None, content)
        elif not is_transfer:
            digest = hashlib.sha256(b"other" if hub.tells_wrong_digest else content).hexdigest()
            size_bytes = hub.tells_size_bytes or len(content)
            linked = {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(size_bytes), "X-Repo-Commit": COMMIT}
            self._reply(302, linked | {"Location": f"{hub.storage_url}/storage/{name}"})
        else:
            self._transfer(content)

    def _tree(self, repository: str) -> None:
        """A page of a repository's files, with the next one's address in the Link header."""
        entries = []
        for name, content in self.hub.files.items():
            if name.startswith(f"{repository}/"):
                entry: dict[str, Any] = {"type": "file", "oid": _git_digest(content), "size": len(content)}
                if name.endswith(LARGE):
                    sha256 = hashlib.sha256(content).hexdigest()
                    entry["lfs"] = {"oid": sha256, "size": len(content), "pointerSize": 135}
                entries.append(entry | {"path": name.removeprefix(f"{repository}/")})
        if not entries:
            self._reply(404, {"X-Error-Code": "RepoNotFound"})
            return
        folders = {entry["path"].rpartition("/")[0] for entry in entries} - {""}
        entries += [{"type": "directory", "oid": COMMIT, "size": 0, "path": path} for path in sorted(folders)]
        start = int(parse_qs(urlsplit(self.path).query).get("cursor", ["0"])[0])
        end = start + self.hub.page_size
        links = {}
        if end < len(entries):
            following = f"{self.hub.url}/api/models/{repository}/tree/main?recursive=true&cursor={end}"
            links["Link"] = f'<{following}>; rel="next"'
        body = json.dumps(entries[start:end]).encode()
        self._reply(200, {"Content-Type": "application/json"} | links, body, body)

    def _transfer(self, content: bytes) -> None:
        hub = self.hub
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        if hub.break_after_bytes == 0:
            self._reply(503, {})
            return
        headers = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if start else {}
        body = content[start:]
        if hub.break_after_bytes is not None:
            body, hub.break_after_bytes = body[: hub.break_after_bytes], 0
        if hub.stall_after_bytes is not None:
            self._stall(start, body, headers)
            return
        self._reply(206 if start else 200, headers, body, content[start:])

    def _stall(self, start: int, body: bytes, headers: dict[str, str]) -> None:
        self._reply(206 if start else 200, headers, None, body)
        self.wfile.write(body[: self.hub.stall_after_bytes])
        self.wfile.flush()
        self.hub.may_go_on.wait(60)
        self.close_connection = True

    def _reply(self, status: int, headers: dict[str, str], body: bytes | None = None, whole: bytes = b"") -> None:
        """`whole` gives the length that is announced; a shorter body breaks the connection off."""
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(whole))}).items():
            self.send_header(name, value)
        self.end_headers()
        if body is not None:
            self.wfile.write(body)
            if len(body) < len(whole):
                self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""


def _git_digest(content: bytes) -> str:
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
