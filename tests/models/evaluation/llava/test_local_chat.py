from pathlib import Path

import pytest

from models.evaluation.errors import EvaluationError
from models.evaluation.llava.local_chat import read_pixels


def test_what_is_no_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"nothing")
    with pytest.raises(EvaluationError, match=r"a\.png: cannot be read as a picture"):
        read_pixels(tmp_path / "a.png", 32)
