"""What findings depend on, in one word: nothing of it can change without the word."""

from pathlib import Path

import pytest

from safety.fingerprint import fingerprint, small_files


@pytest.fixture
def code(tmp_path: Path) -> Path:
    path = tmp_path / "screen.py"
    path.write_text("SIDE_PX = 224\n")
    return path


def test_the_same_is_told_the_same(code: Path) -> None:
    word = fingerprint(str(code), ("pillow",), [b"weights"])
    assert word == fingerprint(str(code), ("pillow",), iter([memoryview(b"weights")]))
    assert len(word) == 12 and int(word, 16) >= 0


def test_other_weights_code_or_libraries_are_another(code: Path) -> None:
    words = {
        fingerprint(str(code), ("pillow",), [b"weights"]),
        fingerprint(str(code), ("pillow",), [b"weightz"]),
        fingerprint(str(code), ("pillow",), [b"weigh", b"ts"]),
        fingerprint(str(code), ("pytest",), [b"weights"]),
        fingerprint(str(code), ("not-installed",), [b"weights"]),
    }
    code.write_text("SIDE_PX = 256\n")
    words.add(fingerprint(str(code), ("pillow",), [b"weights"]))
    assert len(words) == 6


def test_a_folders_small_files_count_by_name_and_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("safety.fingerprint._SMALL_BYTES", 100)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(bytes(101))
    (tmp_path / "onnx").mkdir()
    assert list(small_files(tmp_path)) == [b"config.json", b"{}"]
