"""Loading in a process of its own: no second copy of the weights, whatever the dtype."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models.checkpoints.conversion import convert
from models.checkpoints.published_names import published_name
from models.checkpoints.weights import skeleton
from models.networks.chat.config import ChatConfig

ROOT = Path(__file__).parents[3]
LIMIT = 1.15
# What does not grow with the weights: skeleton, vocabulary, tables of names, one piece in transit.
FIXED_BYTES = 24 * 2**20
ENGINE_BYTES = FIXED_BYTES + 80 * 2**20  # keys and values, what a step computes, and modules that it imports


@pytest.fixture(scope="module")
def large_file(tmp_path_factory: pytest.TempPathFactory, chat_config: ChatConfig) -> Path:
    """About 200 MB of float16; one matrix is a third of it."""
    config = replace(
        chat_config,
        llm=replace(chat_config.llm, vocab_size=32_000, dim_model=1024, dim_ff=4096, num_layers=4, dim_head=256),
    )
    block = torch.randn(2**20, generator=torch.Generator().manual_seed(0)).half()
    tensors = {}
    for name, parameter in skeleton(config).state_dict().items():
        values = block.repeat(-(-parameter.numel() // block.numel()))[: parameter.numel()]
        tensors[published_name("chat", name)] = values.clone().view(parameter.shape)
    file = tmp_path_factory.mktemp("large") / "pytorch_model.bin"
    torch.save(tensors, file)
    names = ["<pad>", "<unk>", "</n>", "</_>", "<s>", "</s>", "<root>", "<ans>"]
    names += [f"w{index}" for index in range(len(names), config.llm.vocab_size)]
    (file.parent / "vocab.txt").write_text("\n".join(names))
    return file


def measure(way: str, path: Path, dtype: str, quantization: str = "off") -> dict[str, float]:
    command = [
        sys.executable,
        ROOT / "benchmarks" / "load_memory.py",
        "--measure",
        way,
        "--file",
        path,
        "--dtype",
        dtype,
        "--quantization",
        quantization,
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    assert finished.returncode == 0, finished.stderr
    measured: dict[str, float] = json.loads(finished.stdout.splitlines()[-1])
    return measured


pytestmark = [
    pytest.mark.whole_run,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux: measured through /proc"),
]


@pytest.mark.parametrize("form", ["file", "converted folder"])
def test_converting_takes_one_copy(large_file: Path, tmp_path: Path, form: str) -> None:
    path = large_file
    if form == "converted folder":
        path = tmp_path / "converted"
        convert(large_file, path)
    measured = measure("mapped", path, "float32")
    assert measured["weights_bytes"] > 350e6
    assert measured["peak_bytes"] <= LIMIT * measured["weights_bytes"] + FIXED_BYTES
    assert measured["anonymous_bytes"] >= 0.95 * measured["weights_bytes"]  # the measure sees the weights


def test_unchanged_weights_take_none(large_file: Path) -> None:
    measured = measure("mapped", large_file, "float16")
    assert measured["weights_bytes"] > 180e6
    assert measured["anonymous_bytes"] <= 0.05 * measured["weights_bytes"] + FIXED_BYTES
    assert measured["in_use_ratio"] <= LIMIT


def test_the_usual_way_takes_two(large_file: Path) -> None:
    """What the limits above would catch."""
    measured = measure("plain", large_file, "float16")
    assert measured["peak_bytes"] > 1.9 * measured["weights_bytes"]


@pytest.mark.parametrize("quantization", ["off", "int8", "int4"])
def test_a_chat_worker_starts_within_its_weights(large_file: Path, quantization: str) -> None:
    """Reading, quantizing, folding, packing and the first answers, counted without the mapped file's pages."""
    measured = measure("engine", large_file, "float32", quantization)
    embedding_bytes = 32_000 * 1024 * 4  # a third of this model is what a fiftieth of the published one is
    copied = embedding_bytes if quantization == "off" else 0  # unquantized, a packed copy projects
    assert measured["anonymous_bytes"] <= LIMIT * measured["weights_bytes"] + copied + ENGINE_BYTES
    assert measured["anonymous_bytes"] >= 0.9 * measured["weights_bytes"]


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_shard_takes_its_own_weights_and_never_the_whole(large_file: Path, dtype: str) -> None:
    measured = measure("shard", large_file, dtype)
    whole_bytes = large_file.stat().st_size * (1 if dtype == "float16" else 2)
    assert measured["weights_bytes"] < 0.52 * whole_bytes
    assert measured["peak_bytes"] <= LIMIT * measured["weights_bytes"] + FIXED_BYTES
    assert measured["in_use_ratio"] <= LIMIT + FIXED_BYTES / measured["weights_bytes"]
