"""A small stand-in for ModelScope: its list of a repository and its files, on a loopback port.

Every file is told with its SHA-256; large ones are answered by a redirect to another host, as there.
"""

import hashlib
import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.models.checkpoints.hub.huggingface_stand_in import LARGE, Hub, HubHandler


class ModelScopeHandler(HubHandler):
    def _answer(self, with_body: bool) -> None:
        hub = self.hub
        hub.requests.append((self.command, self.path, self.headers.get("Range", "")))
        if "Authorization" in self.headers:
            hub.credentials.append(self.path)
        asked = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(asked.query).items()}
        if asked.path.startswith("/storage/"):
            self._transfer(hub.files[asked.path.removeprefix("/storage/")])
            return
        repository, _, what = asked.path.removeprefix("/api/v1/models/").partition("/repo")
        if query.get("Revision") != "master":
            self._json(404, {"Code": 10010205001, "Message": "revision not found", "Success": False})
        elif what == "/files":
            self._list(repository)
        else:
            self._file(f"{repository}/{query['FilePath']}")

    def _list(self, repository: str) -> None:
        entries: list[dict[str, Any]] = []
        for name, content in self.hub.files.items():
            if not name.startswith(f"{repository}/"):
                continue
            path = name.removeprefix(f"{repository}/")
            digest = hashlib.sha256(b"other" if self.hub.tells_wrong_digest else content).hexdigest()
            own = {"Name": path.rpartition("/")[2], "Path": path, "Size": len(content), "Sha256": digest}
            entries.append(own | {"Type": "blob", "IsLFS": name.endswith(LARGE), "Mode": "33188", "Revision": "c0ffee"})
        for folder in sorted({entry["Path"].rpartition("/")[0] for entry in entries} - {""}):
            entries.append({"Name": folder, "Path": folder, "Size": 0, "Sha256": "", "Type": "tree"})
        if not entries:
            self._json(404, {"Code": 10010205001, "Message": f"model {repository} does not exist", "Success": False})
            return
        self._json(200, {"Code": 200, "Data": {"Files": entries}, "Message": "success", "Success": True})

    def _file(self, name: str) -> None:
        content = self.hub.files[name]
        if name.endswith(LARGE):
            self._reply(302, {"Location": f"{self.hub.storage_url}/storage/{name}"})
        else:
            self._reply(200, {}, content, content)

    def _json(self, status: int, told: dict[str, Any]) -> None:
        body = json.dumps(told).encode()
        self._reply(status, {"Content-Type": "application/json"}, body, body)


def modelscope(files: dict[str, bytes]) -> Hub:
    return Hub(files, handler=ModelScopeHandler)
