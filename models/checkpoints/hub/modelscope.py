"""ModelScope: `/api/v1/models/…/repo/files` lists a repository, `/repo?FilePath=…` gives a file, without an account.

The list tells every file's size and SHA-256, so one answer does for a repository.
"""

import os
from typing import Any
from urllib.parse import urlencode

import httpx

from models.checkpoints.hub.collections import name_on_modelscope
from models.checkpoints.hub.remote_file import RemoteFile, checked_name

_DOMAIN = "www.modelscope.cn"
_LIMIT_S = 30.0


def modelscope_endpoint() -> str:
    """MODELSCOPE_DOMAIN, a host or a URL, as ModelScope's own client reads it; else the public one."""
    domain = os.environ.get("MODELSCOPE_DOMAIN", "").strip().rstrip("/") or _DOMAIN
    return domain if "://" in domain else f"https://{domain}"


class ModelScope:
    """One endpoint."""

    def __init__(self, endpoint: str) -> None:
        self.name = endpoint
        self._lists: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}

    def find(self, repository: str, file: str, revision: str | None) -> RemoteFile:
        revision = revision or "master"
        entry = self._list(repository, revision).get(file)
        if entry is None:
            raise FileNotFoundError(f"404: {name_on_modelscope(repository)} has no such file there")
        query = urlencode({"Revision": revision, "FilePath": file})
        url = f"{self.name}/api/v1/models/{name_on_modelscope(repository)}/repo?{query}"
        return RemoteFile(int(entry["Size"]), str(entry.get("Sha256") or ""), url)

    def names(self, repository: str, revision: str | None) -> list[str]:
        return [checked_name(name) for name in self._list(repository, revision or "master")]

    def _list(self, repository: str, revision: str) -> dict[str, dict[str, Any]]:
        known = self._lists.get((repository, revision))
        if known is None:
            known = self._lists[repository, revision] = self._ask(repository, revision)
        return known

    def _ask(self, repository: str, revision: str) -> dict[str, dict[str, Any]]:
        url = f"{self.name}/api/v1/models/{name_on_modelscope(repository)}/repo/files"
        answer = httpx.get(
            url, params={"Revision": revision, "Recursive": "True"}, timeout=_LIMIT_S, follow_redirects=True
        )
        try:
            told = answer.json()
        except ValueError:
            told = {}
        if answer.status_code != 200 or told.get("Code") != 200:
            raise ValueError(f"{answer.status_code}: {told.get('Message') or answer.reason_phrase}")
        return {entry["Path"]: entry for entry in told["Data"]["Files"] or () if entry["Type"] == "blob"}
