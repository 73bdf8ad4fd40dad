"""The command line's refusals."""

from pathlib import Path

import pytest

from models.training.cli import main
from tests.models.training_files import Data


def test_what_cannot_be_used_is_said_in_one_line(
    data: Data, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(data.arguments(tmp_path, "--export-only", str(tmp_path / "out"))) == 1
    assert "no saved state" in capsys.readouterr().err
    absent = tmp_path / "absent.json"
    assert main(["chat", "--init", str(data.sizes), "--data", str(absent), "--output", str(tmp_path)]) == 1
    assert capsys.readouterr().err == "viscpm finetune: --init needs --vocabulary\n"
    with pytest.raises(SystemExit, match="2"):
        main(["chat", "--data", "emoji"])
