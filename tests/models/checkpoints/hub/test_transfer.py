"""Partial files: by content, one writer, and all or nothing at the target's place."""

import fcntl
import hashlib
from pathlib import Path

import pytest

from models.checkpoints.hub.remote_file import RemoteFile
from models.checkpoints.hub.transfer import WrongContent, bring, missing_bytes, partial_file

CONTENT = b"published content"


@pytest.fixture
def published(tmp_path: Path) -> RemoteFile:
    source = tmp_path / "source"
    source.write_bytes(CONTENT)
    return RemoteFile(len(CONTENT), hashlib.sha256(CONTENT).hexdigest(), path=source)


def test_a_partial_file_is_named_after_its_content(published: RemoteFile, tmp_path: Path) -> None:
    partial = partial_file(published, tmp_path / "a.bin")
    assert partial == tmp_path / f"a.bin.{published.digest[:16]}.part"
    assert partial_file(RemoteFile(1), tmp_path / "a.bin") == tmp_path / "a.bin.part"


def test_what_is_missing(published: RemoteFile, tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    assert missing_bytes(published, target) == len(CONTENT)
    partial_file(published, target).write_bytes(CONTENT[:5])
    assert missing_bytes(published, target) == len(CONTENT) - 5
    partial_file(published, target).write_bytes(CONTENT * 2)
    assert missing_bytes(published, target) == len(CONTENT)
    target.write_bytes(CONTENT)
    assert missing_bytes(published, target) == 0


def test_the_target_is_replaced_at_once(published: RemoteFile, tmp_path: Path) -> None:
    target = tmp_path / "new" / "a.bin"
    bring(published, target)
    assert target.read_bytes() == CONTENT
    assert list(target.parent.iterdir()) == [target]


def test_wrong_content_leaves_what_was_there(published: RemoteFile, tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    target.write_bytes(b"older")
    wrong = RemoteFile(len(CONTENT), hashlib.sha256(b"other").hexdigest(), path=published.path)
    with pytest.raises(WrongContent, match="wrong content: checksum .* thrown away"):
        bring(wrong, target)
    assert target.read_bytes() == b"older"
    assert not list(tmp_path.glob("*.part"))


def test_two_fetches_do_not_write_one_file(published: RemoteFile, tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    with partial_file(published, target).open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(OSError, match="is being written by another fetch"):
            bring(published, target)
    bring(published, target)
    assert target.read_bytes() == CONTENT
