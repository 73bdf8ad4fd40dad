"""A run that is killed and goes on from its last saved state is the run that nobody killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from models.training.cli import main
from models.training.logs import STEPS_FILE, read_rows
from models.training.state import NUM_KEPT, saved_states
from tests.models.training_files import Data

pytestmark = pytest.mark.whole_run

FLAGS = ("--batch-size", "4", "--accumulation", "2", "--max-gradient-norm", "5", "--save-every", "5", "--resume")
KILLED_AFTER_STEPS = 12  # between two saved states


def losses(output: Path) -> dict[int, float]:
    return {int(row["step"]): float(row["loss"]) for row in read_rows(output / STEPS_FILE)}


def test_a_killed_run_goes_on_as_if_nothing_had_happened(data: Data, tmp_path: Path) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    command = [sys.executable, "-m", "models.training.cli", *data.arguments(killed, *FLAGS, "--steps", "1000000")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while process.poll() is None and max(losses(killed), default=0) < KILLED_AFTER_STEPS:
            time.sleep(0.02)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "ended by itself"
    saved, _ = saved_states(killed)[-1]
    done = max(losses(killed))
    assert done >= KILLED_AFTER_STEPS
    assert len(saved_states(killed)) == NUM_KEPT

    steps = str(max(saved, done) + 3)
    assert main(data.arguments(killed, *FLAGS, "--steps", steps)) == 0
    assert main(data.arguments(whole, *FLAGS, "--steps", steps)) == 0
    assert list(losses(killed)) == list(range(1, int(steps) + 1))
    assert losses(killed) == pytest.approx(losses(whole), rel=0, abs=1e-5)
    assert losses(whole)[int(steps)] < losses(whole)[1]
