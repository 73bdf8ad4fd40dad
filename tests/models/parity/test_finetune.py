"""The fine-tuning step: its check passes on the reference's numbers and notices a wrong one."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from models.datasets.examples import Round
from models.parity.finetune import check_step, first_round
from models.parity.fixtures import Fixtures
from models.parity.report import Report

WHOLE = Path(os.environ.get("VISCPM_PARITY_DIR", Path(__file__).parents[4] / "shared" / "parity"))


def step(folder: Path) -> Report:
    report = Report()
    check_step(Fixtures(folder, torch.device("cpu"), torch.float32), report)
    return report


def test_the_first_round_is_what_is_learned() -> None:
    conversation = [
        {"from": "human", "value": "What is this?\n<image>"},
        {"from": "gpt", "value": "x < y"},
        {"from": "human", "value": "Why?"},
    ]
    assert first_round(conversation) == (Round("What is this?", "x < y"),)


@pytest.mark.slow
@pytest.mark.skipif(not (WHOLE / "finetune.json").is_file(), reason="reference data: no step in the trimmed copy")
def test_loss_and_gradients_equal_the_references(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = step(WHOLE)
    assert report.lines > 20 and report.failures == 0, capsys.readouterr().out

    folder = shutil.copytree(WHOLE, tmp_path / "wrong", symlinks=True, copy_function=os.symlink)
    described = json.loads((WHOLE / "finetune.json").read_text())
    described["loss"] *= 1.001
    described["grad_norm"]["query"] *= 1.001
    (folder / "finetune.json").unlink()
    (folder / "finetune.json").write_text(json.dumps(described))
    assert step(folder).failures == 2
