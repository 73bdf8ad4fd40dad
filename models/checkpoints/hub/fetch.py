"""Fetching published files from a hub, its mirrors or a local folder, going on where an earlier fetch stopped."""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from huggingface_hub import constants

from models.checkpoints.hub.collections import COLLECTIONS, REPOSITORIES, Wanted
from models.checkpoints.hub.folder import Folder
from models.checkpoints.hub.huggingface import HuggingFace
from models.checkpoints.hub.modelscope import ModelScope, modelscope_endpoint
from models.checkpoints.hub.remote_file import RemoteFile, Source
from models.checkpoints.hub.transfer import bring, missing_bytes
from models.checkpoints.tensor_files import CheckpointError

HUB_VARIABLE = "VISCPM_HUB"


@dataclass
class _File:
    """One file on its way: what offers it, best first, and what those said that could not give it."""

    shown_name: str
    offers: Iterator[tuple[str, str, RemoteFile]]  # who, name in the folder, file
    tried: list[str] = field(default_factory=list)


def fetch(
    name: str,
    folder: Path,
    mirrors: Iterable[str] = (),
    revision: str | None = None,
    hub: str | None = None,
    tell: Callable[[str], object] = lambda line: None,
) -> list[Path]:
    """Bring all files of a collection into a folder; files that are there already and whole are kept.

    Args:
        name: a key of COLLECTIONS or REPOSITORIES.
        mirrors: tried in order before the hub: what `hub` may be, or local folders that hold `owner/repository/file`
            or the files themselves.
        revision: branch, tag or commit on the hub (None: main, and master on ModelScope); local folders have none.
        hub: `huggingface` (HF_ENDPOINT, else huggingface.co), `modelscope`, or the URL of a mirror that speaks the
            former's protocol; None: what VISCPM_HUB says, else the first.
        tell: gets a line that tells sizes, before anything is transferred.

    Raises:
        CheckpointError: a file that no source gave, with all that was tried; or a disk that is too small.
    """
    sources = [*(_source(mirror) for mirror in mirrors), _hub(hub or os.environ.get(HUB_VARIABLE, ""))]
    folder.mkdir(parents=True, exist_ok=True)
    wanted = COLLECTIONS.get(name) or _all_files(REPOSITORIES[name], sources, revision)
    files = [_offered(one, sources, revision) for one in wanted]
    firsts = [_next_offer(file) for file in files]
    tell(_check_room(folder, [(remote, folder / place) for _, place, remote in firsts]))
    return [_bring(file, first, folder) for file, first in zip(files, firsts, strict=True)]


def _hub(text: str) -> Source:
    """Raises CheckpointError for what is no hub."""
    if text in ("", "huggingface", "modelscope") or _is_url(text):
        return _source(text or "huggingface")
    raise CheckpointError(f"{HUB_VARIABLE}={text}: huggingface, modelscope or the URL of a mirror are allowed")


def _source(text: str) -> Source:
    text = text.rstrip("/")
    if text == "modelscope":
        return ModelScope(modelscope_endpoint())
    if text == "huggingface":
        return HuggingFace(constants.ENDPOINT)
    return HuggingFace(text) if _is_url(text) else Folder(text)


def _is_url(text: str) -> bool:
    return text.startswith(("http://", "https://"))


def _all_files(repository: str, sources: Sequence[Source], revision: str | None) -> tuple[Wanted, ...]:
    """Of the first source that has the repository, without what only git reads."""
    tried = []
    for source in sources:
        try:
            names = source.names(repository, revision)
        except Exception as error:  # whatever one source does wrong, the next may do right
            tried.append(f"{source.name} {repository}: {_reason(error)}")
        else:
            return tuple(Wanted(((repository, name),)) for name in names if not name.startswith("."))
    raise CheckpointError(f"cannot list {repository}; tried " + "; ".join(tried))


def _offered(wanted: Wanted, sources: Sequence[Source], revision: str | None) -> _File:
    tried: list[str] = []

    def offers() -> Iterator[tuple[str, str, RemoteFile]]:
        for repository, name in wanted.places:
            for source in sources:
                who = f"{source.name} {repository}/{name}"
                try:
                    yield who, name, source.find(repository, name, revision)
                except Exception as error:  # as above
                    tried.append(f"{who}: {_reason(error)}")

    return _File(wanted.places[0][1], offers(), tried)


def _next_offer(file: _File) -> tuple[str, str, RemoteFile]:
    offer = next(file.offers, None)
    if offer is None:
        raise CheckpointError(f"cannot fetch {file.shown_name}; tried " + "; ".join(file.tried))
    return offer


def _bring(file: _File, offer: tuple[str, str, RemoteFile], folder: Path) -> Path:
    while True:
        who, name, remote = offer
        try:
            bring(remote, folder / name)
        except Exception as error:  # as above
            file.tried.append(f"{who}: {_reason(error)}")
            offer = _next_offer(file)
        else:
            return folder / name


def _check_room(folder: Path, files: Sequence[tuple[RemoteFile, Path]]) -> str:
    """A line that tells the sizes. Raises CheckpointError where the disk is too small."""
    missing = [missing_bytes(remote, target) for remote, target in files]
    free_bytes = shutil.disk_usage(folder).free
    if sum(missing) > free_bytes:
        raise CheckpointError(
            f"{_told(sum(missing))} are needed in {folder}, {_told(free_bytes)} are free: make room, or name another "
            "folder (--to)"
        )
    whole_bytes = sum(remote.size_bytes for remote, _ in files)
    return (
        f"{len(files)} files of {_told(whole_bytes)}, of which {_told(sum(missing))} are to come into {folder}; "
        f"{_told(free_bytes)} are free there"
    )


def _told(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 10**8 else f"{num_bytes / 1e6:.1f} MB"


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
