"""Folders by repository and flat ones."""

from pathlib import Path

import pytest

from models.checkpoints.hub.folder import Folder


@pytest.mark.parametrize("layout", ["owner/name", ""])
def test_files_are_found(tmp_path: Path, layout: str) -> None:
    (tmp_path / layout).mkdir(parents=True, exist_ok=True)
    (tmp_path / layout / "vocab.txt").write_bytes(b"1234")
    found = Folder(str(tmp_path)).find("owner/name", "vocab.txt", None)
    assert (found.size_bytes, found.path) == (4, tmp_path / layout / "vocab.txt")


def test_names_are_those_of_a_repository(tmp_path: Path) -> None:
    (tmp_path / "owner/name/vae").mkdir(parents=True)
    (tmp_path / "owner/name/vae/config.json").touch()
    (tmp_path / "owner/name/a.bin").touch()
    assert Folder(str(tmp_path)).names("owner/name", None) == ["a.bin", "vae/config.json"]
    with pytest.raises(FileNotFoundError, match="no folder .*owner/other"):
        Folder(str(tmp_path)).names("owner/other", None)
