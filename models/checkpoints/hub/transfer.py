"""One file's way here: into a partial file beside its target, checked, and put in place at once.

`hf_hub_download` throws a partial file away when it is interrupted, which for 20 GB is no good. So the hub's library
transfers, and the partial file is kept here, named after its content's digest: any source of the same content can go on
with it, also after a kill.
"""

import fcntl
import os
import shutil
from pathlib import Path
from typing import BinaryIO

from huggingface_hub.file_download import http_get

from models.checkpoints.hub.remote_file import RemoteFile


class WrongContent(Exception):
    """What was received is not what is published; nothing of it was kept. The message is one line."""


def bring(remote: RemoteFile, target: Path) -> None:
    """Make `target` the published file; one that is there already and whole is kept.

    Raises:
        WrongContent: it has another size or checksum than its source tells.
        OSError, and what the HTTP library raises: the partial file is kept for the next time.
    """
    if target.is_file() and not remote.mismatch(target):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_file(remote, target)
    with partial.open("ab") as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OSError(f"{partial} is being written by another fetch") from None
        _receive(remote, opened, target.name)
        opened.flush()
        os.fsync(opened.fileno())
        if wrong := remote.mismatch(partial):
            partial.unlink()
            raise WrongContent(f"wrong content: {wrong}; thrown away")
        partial.replace(target)


def partial_file(remote: RemoteFile, target: Path) -> Path:
    """Where what has come of it so far is."""
    return target.with_name(f"{target.name}.{remote.digest[:16]}.part" if remote.digest else f"{target.name}.part")


def missing_bytes(remote: RemoteFile, target: Path) -> int:
    """How many more bytes of disk a file will take, by the sizes of what is there."""
    if target.is_file() and target.stat().st_size == remote.size_bytes:
        return 0
    partial = partial_file(remote, target)
    done_bytes = partial.stat().st_size if partial.is_file() else 0
    return remote.size_bytes - done_bytes if done_bytes <= remote.size_bytes else remote.size_bytes


def _receive(remote: RemoteFile, opened: BinaryIO, shown_name: str) -> None:
    done_bytes = opened.tell()
    # Content without a digest may be another one by now, and more than all is no part of it
    if done_bytes > remote.size_bytes or not remote.digest:
        opened.truncate(0)
        done_bytes = 0
    if remote.path is not None:
        with remote.path.open("rb") as source:
            shutil.copyfileobj(source, opened)
        return
    http_get(
        remote.url,
        opened,
        resume_size=done_bytes,
        headers=remote.headers,
        expected_size=remote.size_bytes,
        displayed_filename=shown_name,
    )
