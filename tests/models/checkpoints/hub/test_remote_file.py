"""What a file is compared with, and names that lead out of the folder."""

import hashlib
from pathlib import Path

import pytest

from models.checkpoints.hub.remote_file import RemoteFile, checked_name

CONTENT = b"weights"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
GIT = hashlib.sha1(b"blob 7\0" + CONTENT).hexdigest()


@pytest.mark.parametrize("digest", [SHA256, GIT, ""])
def test_the_published_content_is_no_mismatch(tmp_path: Path, digest: str) -> None:
    file = tmp_path / "file"
    file.write_bytes(CONTENT)
    assert RemoteFile(7, digest).mismatch(file) == ""
    assert RemoteFile(8, digest).mismatch(file) == "7 bytes instead of 8"
    file.write_bytes(b"Weights")
    assert RemoteFile(7, digest).mismatch(file).startswith("checksum " if digest else "")


def test_a_checksum_is_told_with_the_expected_one(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"another")
    found = hashlib.sha256(b"another").hexdigest()
    assert RemoteFile(7, SHA256).mismatch(file) == f"checksum {found[:16]}… instead of {SHA256[:16]}…"


@pytest.mark.parametrize("name", ["../up", "a/../../up", "/etc/passwd", "a\\b", "", "a\0b"])
def test_names_stay_in_the_folder(name: str) -> None:
    with pytest.raises(ValueError, match="is no name of a file"):
        checked_name(name)


def test_names_of_folders_pass() -> None:
    assert checked_name("vae/config.json") == "vae/config.json"
