"""The command line's refusals."""

from pathlib import Path

import pytest

from models.emoji.drawings import NOTO_FONT_VARIABLE
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


@pytest.mark.slow
@pytest.mark.usefixtures("without_noto")
@pytest.mark.parametrize("command", [["tower"], ["chat", "--data", "emoji"]])
def test_a_style_that_is_not_installed_is_said_in_one_line(
    data: Data,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: list[str],
) -> None:
    monkeypatch.setenv(NOTO_FONT_VARIABLE, str(tmp_path / "none.ttf"))
    start = ["--init", str(data.sizes), "--vocabulary", str(data.vocabulary), "--output", str(tmp_path)]
    assert main([*command, *start]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("viscpm finetune: ") and "none.ttf; install Debian's fonts-noto-color-emoji" in line
