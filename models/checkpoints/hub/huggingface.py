"""The Hugging Face hub, and mirrors that speak its protocol: `/api/models/…/tree/…` and `/…/resolve/…`."""

from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
from huggingface_hub.utils import build_hf_headers, get_session

from models.checkpoints.hub.remote_file import RemoteFile, checked_name

_LIMIT_S = 30.0  # of an answer that lists files


@dataclass(frozen=True)
class HuggingFace:
    """One endpoint. HF_ENDPOINT's gets the user's credentials; a mirror is somebody else, and gets none."""

    name: str

    def find(self, repository: str, file: str, revision: str | None) -> RemoteFile:
        url = hf_hub_url(repository, file, revision=revision or "main", endpoint=self.name)
        metadata = get_hf_file_metadata(url, token=self._token)
        if metadata.etag is None or metadata.size is None:
            raise ValueError("the answer has no ETag or no size")
        headers = build_hf_headers(token=self._token)
        if urlsplit(metadata.location).netloc != urlsplit(url).netloc:
            headers.pop("authorization", None)
        return RemoteFile(metadata.size, metadata.etag, metadata.location, headers)

    def names(self, repository: str, revision: str | None) -> list[str]:
        names: list[str] = []
        url = f"{self.name}/api/models/{repository}/tree/{quote(revision or 'main', safe='')}?recursive=true"
        while url:  # long lists come in pages
            answer = get_session().get(url, headers=build_hf_headers(token=self._token), timeout=_LIMIT_S)
            answer.raise_for_status()
            names += [checked_name(entry["path"]) for entry in answer.json() if entry["type"] == "file"]
            url = answer.links.get("next", {}).get("url", "")
            if url and urlsplit(url).netloc != urlsplit(self.name).netloc:
                raise ValueError(f"the list goes on at another host, {urlsplit(url).netloc}")
        return names

    @property
    def _token(self) -> bool | None:
        return None if self.name == constants.ENDPOINT else False
