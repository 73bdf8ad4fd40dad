"""The program of `make gpu-check`, as far as a machine without a GPU can run it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.gpu_check import _rated
from benchmarks.random_engines import create_paint
from models.jobs import EngineConfig, Failed, Generated, PaintJob

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.whole_run, pytest.mark.timeout(420)]


def _run(*flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "benchmarks/gpu_check.py", *flags]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=400)


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA: a device is here, make gpu-check runs for real")
def test_it_refuses_without_cuda_in_one_line() -> None:
    process = _run()
    assert process.returncode == 1
    assert process.stderr.count("\n") == 1 and "needs a CUDA device" in process.stderr


KERNEL = ["attention kernel float32", "attention kernel float16", "steps by the kernel"]
SPEED = [
    "one request, times the reference's tokens/s",
    "4 requests, times one request's tokens/s",
    "four pictures, s",
    "four pictures, times as fast as the reference",
]


@pytest.mark.ops  # a minute each
@pytest.mark.parametrize(
    ("steps", "checks"),
    [("kernel", KERNEL), ("chat", ["chat", "chat memory in /metrics"]), ("speed", SPEED)],
    ids=["kernel", "chat", "speed"],
)
def test_the_whole_way_with_small_models(tmp_path: Path, steps: str, checks: list[str]) -> None:
    process = _run("--device", "cpu", "--tiny", "--steps", steps, "--results", str(tmp_path))
    assert process.returncode == 0, process.stdout + process.stderr
    (written,) = tmp_path.glob("*-tiny.json")
    result = json.loads(written.read_text())
    assert json.loads(process.stdout.splitlines()[-1]) == result
    assert [row["check"] for row in result["rows"]] == checks
    assert written.with_suffix(".md").read_text().count("| yes |") == len(checks)


@pytest.mark.parametrize(
    ("check", "value", "is_tiny", "is_good"),
    [
        ("four pictures, s", 1.1, False, True),
        ("four pictures, s", 1.3, False, False),
        ("one request, share of the weights' roofline", 0.69, False, False),
        ("4 requests, times one request's tokens/s", 0.1, True, True),
    ],
)
def test_a_figure_of_the_full_size_is_held_to_its_bar(check: str, value: float, is_tiny: bool, is_good: bool) -> None:
    assert _rated(check, value, "", is_tiny)["is_good"] is is_good


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
