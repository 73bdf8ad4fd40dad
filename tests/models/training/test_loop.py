"""Two processes through accelerate are one process with twice the batch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from accelerate.state import AcceleratorState
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from models.checkpoints.loading import load_chat
from models.training.cli import main
from models.training.logs import STEPS_FILE, VALIDATION_FILE, read_rows
from tests.models.training_files import Data

NUM_STEPS = 6
FLAGS = ("--steps", str(NUM_STEPS), "--export-dtype", "float32", "--max-gradient-norm", "2")
# `--cpu` would start one process: several are started as for GPUs, and told to use the CPU.
LAUNCH = ("--multi_gpu", "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no")


def losses(output: Path) -> list[float]:
    return [float(row["loss"]) for row in read_rows(output / STEPS_FILE)]


@pytest.mark.whole_run
def test_two_processes_learn_as_one_with_twice_the_batch(data: Data, tmp_path: Path) -> None:
    two, one, accumulated = (tmp_path / name for name in ("two", "one", "accumulated"))
    command = [sys.executable, "-m", "accelerate.commands.launch", *LAUNCH, "--dynamo_backend", "no"]
    command += ["--main_process_port", "0", "-m", "models.training.cli"]
    command += data.arguments(two, *FLAGS, "--batch-size", "3")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    assert main(data.arguments(one, *FLAGS, "--batch-size", "6")) == 0
    assert main(data.arguments(accumulated, *FLAGS, "--batch-size", "3", "--accumulation", "2")) == 0
    # Rounds differ in their number of targets, so an average of two averages would be another loss.
    assert len(losses(one)) == NUM_STEPS
    assert losses(two) == pytest.approx(losses(one), rel=0, abs=1e-4)
    assert losses(accumulated) == pytest.approx(losses(one), rel=0, abs=1e-4)
    weights = [load_chat(output / "export").model.state_dict() for output in (one, two)]
    assert all((weights[0][name] - weights[1][name]).abs().max() < 1e-3 for name in weights[0])


@pytest.mark.slow
def test_a_run_logs_validates_and_exports_its_states(data: Data, tmp_path: Path) -> None:
    flags = (
        "--epochs",
        "2",
        "--batch-size",
        "5",
        "--num-validation",
        "2",
        "--validate-every",
        "2",
        "--save-every",
        "2",
    )
    assert main(data.arguments(tmp_path, *flags, "--precision", "bf16", "--no-augment")) == 0
    rows = read_rows(tmp_path / STEPS_FILE)
    assert [row["step"] for row in rows] == ["1", "2", "3", "4"]
    assert float(rows[-1]["epoch"]) == 2 and float(rows[-1]["learning_rate_llm"]) == pytest.approx(1e-2)
    assert [row["step"] for row in read_rows(tmp_path / VALIDATION_FILE)] == ["2", "4"]
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.value for event in events.Scalars("training/loss")] == pytest.approx([float(r["loss"]) for r in rows])
    assert len(events.Scalars("validation/loss")) == 2

    AcceleratorState._reset_state(reset_partial_state=True)  # as in another process
    again = tmp_path / "again"
    assert main(data.arguments(tmp_path, *flags, "--export-only", str(again))) == 0
    assert load_chat(again).fingerprint == load_chat(tmp_path / "export").fingerprint


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("--steps", "2", "--seed", "1"), "saved by a run with seed 0, resumed with 1"),
        (("--steps", "2", "--lora-rank", "2"), "trained_tensors"),
    ],
)
def test_a_state_of_another_run_is_refused(
    data: Data, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], named: str
) -> None:
    assert main(data.arguments(tmp_path, "--steps", "1", "--resume")) == 0
    assert main(data.arguments(tmp_path, *flags, "--resume")) == 1
    assert named in capsys.readouterr().err
