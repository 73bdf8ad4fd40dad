"""The program of `make gpu-check`, as far as a machine without a GPU can run it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.random_engines import create_paint
from models.jobs import EngineConfig, Failed, Generated, PaintJob

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.whole_run, pytest.mark.timeout(240)]


def _run(*flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "benchmarks/gpu_check.py", *flags]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200)


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA: a device is here, make gpu-check runs for real")
def test_it_refuses_without_cuda_in_one_line() -> None:
    process = _run()
    assert process.returncode == 1
    assert process.stderr.count("\n") == 1 and "needs a CUDA device" in process.stderr


def test_the_whole_way_with_a_small_model(tmp_path: Path) -> None:
    process = _run("--device", "cpu", "--tiny", "--steps", "chat", "--results", str(tmp_path))
    assert process.returncode == 0, process.stdout + process.stderr
    result = json.loads((tmp_path / "gpu_check_tiny.json").read_text())
    assert json.loads(process.stdout.splitlines()[-1]) == result
    assert [row["check"] for row in result["rows"]] == ["chat", "chat memory in /metrics"]


def test_the_random_paint_engine_paints() -> None:
    observed = []
    config = EngineConfig(kind="paint", checkpoint="tiny")
    engine = create_paint(config, lambda name, value: observed.append(name))
    engine.admit(PaintJob(job_id="one", prompt="a lighthouse", num_inference_steps=2, height_px=128, width_px=128))
    events = []
    while not any(isinstance(event, Generated | Failed) for _, event in events):
        events += engine.step()
    assert isinstance(events[-1][1], Generated), events[-1]
    assert observed.count("denoise_step_s") == 2


def test_a_size_that_is_neither_is_refused() -> None:
    with pytest.raises(ValueError, match="full or tiny, got 'huge'"):
        create_paint(EngineConfig(kind="paint", checkpoint="huge"), lambda name, value: None)
