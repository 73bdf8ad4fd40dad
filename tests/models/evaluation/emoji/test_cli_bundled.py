"""The bundled checkpoint, measured on a part of its names: it has not come apart from its scores."""

from pathlib import Path

import pytest

from models.evaluation.cli import main

pytestmark = [pytest.mark.whole_run, pytest.mark.timeout(180)]

# Below the shares of the card, since few questions say little.
LEAST = "name=0.93,category=0.85,colour=0.95,count=0.9,follow_up=0.9,paint.chat=0.75,paint.classifier=0.9"


def test_it_sees_and_paints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--limit", "24", "--talks", "120", "--styles", "twemoji", "--skip-openmoji", "--seed", "77"]
    code = main(["emoji", *flags, "--require", LEAST])
    assert code == 0, capsys.readouterr().out
