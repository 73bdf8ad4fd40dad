"""Host memory and time to load a Chat checkpoint, against torch.load and load_state_dict in the same run.

A random float16 checkpoint of the published widths and as many layers as the wanted size takes, with a vocabulary in
proportion to them, is written to a temporary folder and removed at the end. Each way of loading runs in a process of
its own, so that its peak is its own: `plain` is torch's usual one, `mapped` reads the checkpoint, `engine` is the whole
start of a chat worker: reading, quantizing, folding, packing, and the warm-up's first answers.

peak      highest resident memory (VmHWM) beyond what the imports took. Counts pages of the mapped file too, though
          the kernel takes those back whenever it needs memory.
anonymous highest memory that only the process can free: copies, not file pages (sampled every 5 ms).
read      time to look at every weight once after loading: a mapped file is read then, if it was not before.
shard     a way of its own: what the second of two ranks loads, half of the language model (`VISCPM_CHAT_DEVICES`).
in use    resident memory beyond the imports' own once every weight has been read, as a first request does.
weights   bytes of the model's weights, each held once in the precision that it ends in. The ratios divide by it.

What is held to the limit: the peak of `mapped`, and the anonymous memory of `engine`, whose tables of keys and values
and activations count as well. File pages are counted apart: a checkpoint that is quantized is read through once, and
its pages are given back while it is.
"""

import argparse
import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import torch
from torch import nn

from models.checkpoints.config_from_shapes import PUBLISHED_CHAT
from models.checkpoints.loading import load_chat
from models.checkpoints.published_names import published_name
from models.checkpoints.quantization.sizes import weight_bytes
from models.checkpoints.weights import skeleton
from models.engines.chat.engine import ChatEngine, create_engine
from models.jobs import EngineConfig, Quantization
from models.networks.chat.config import ChatConfig
from models.networks.cpm_bee.sharding import Shard

LIMIT = 1.15
WAYS = ("plain", "mapped", "shard", "engine")
DTYPES = {"float16": torch.float16, "float32": torch.float32, "bfloat16": torch.bfloat16}
LOADED_DTYPES = ("float16", "float32")
ENGINE_KV_BYTES = 2**25
_BLOCK_VALUES = 2**20


def main() -> int:
    options = _parser().parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, options.file, DTYPES[options.dtype], options.quantization)))
        return 0
    rows = []
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        file = Path(temporary) / "pytorch_model.bin"
        write_checkpoint(file, options.gigabytes)
        print(f"{file.stat().st_size / 1e9:.2f} GB checkpoint, {'cold' if options.cold else 'warm'} page cache")
        cases = [(way, dtype, "off") for dtype in LOADED_DTYPES for way in ("plain", "mapped", "shard")]
        cases += [("engine", "float32", quantization) for quantization in get_args(Quantization)]
        if torch.cpu._is_avx512_bf16_supported():
            cases += [("engine", "bfloat16", quantization) for quantization in get_args(Quantization)]
        for case in (case for case in cases if case[0] in options.ways):
            if options.cold:
                evict(file)
            rows.append(run_measurement(case[0], file, *case[1:]))
            print_row(rows[-1], with_head=len(rows) == 1)
    worst = max(
        row["anonymous_ratio" if row["way"] == "engine" else "peak_ratio"] for row in rows if row["way"] != "plain"
    )
    summary = {"benchmark": "load_memory", "limit": LIMIT, "worst_peak_ratio": worst, "passed": worst <= LIMIT}
    print(json.dumps(summary | {"cold": options.cold, "rows": rows}))
    return 0 if worst <= LIMIT else 1


def write_checkpoint(file: Path, gigabytes: float) -> None:
    """A float16 Chat checkpoint of at least that size, with its vocabulary; the values repeat one random block."""
    torch.manual_seed(0)
    block = torch.randn(_BLOCK_VALUES).half()
    config = sized_config(gigabytes * 1e9)
    tensors = {}
    for ours, parameter in skeleton(config).state_dict().items():
        count = parameter.numel()
        values = block.repeat(-(-count // _BLOCK_VALUES))[:count]
        tensors[published_name("chat", ours)] = values.clone().view(parameter.shape)
    torch.save(tensors, file)
    names = ["<pad>", "<unk>", "<mask>", "<sep>", "</n>", "</_>", "<s>", "</s>", "<root>", "<ans>"]
    names += [f"word{index}" for index in range(len(names), config.llm.vocab_size)]
    (file.parent / "vocab.txt").write_text("\n".join(names), encoding="utf-8")


def sized_config(wanted_bytes: float) -> ChatConfig:
    """Published widths with a short vision tower and the fewest layers that reach the size."""
    published = PUBLISHED_CHAT.llm
    for num_layers in range(1, published.num_layers):
        vocab_size = published.vocab_size * num_layers // published.num_layers
        config = replace(
            PUBLISHED_CHAT,
            llm=replace(published, num_layers=num_layers, vocab_size=vocab_size),
            vision=replace(PUBLISHED_CHAT.vision, num_layers=2),
        )
        if 2 * sum(parameter.numel() for parameter in skeleton(config).parameters()) >= wanted_bytes:
            return config
    raise SystemExit(f"--gigabytes {wanted_bytes / 1e9:g} is more than a whole checkpoint")


def run_measurement(way: str, file: Path, dtype: str, quantization: str = "off") -> dict[str, Any]:
    command = [sys.executable, __file__, "--measure", way, "--file", str(file), "--dtype", dtype]
    command += ["--quantization", quantization]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [_root(), os.environ.get("PYTHONPATH")]))}
    finished = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    measured: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    return measured


def measure(way: str, file: Path, dtype: torch.dtype, quantization: Quantization = "off") -> dict[str, Any]:
    """Load in this process and tell what it took; nothing else must have been loaded in it."""
    ways: dict[str, Callable[[], nn.Module | ChatEngine]] = {
        "plain": lambda: load_plainly(file, dtype),
        "mapped": lambda: load_chat(file, dtype=dtype).model,
        "shard": lambda: load_chat(file, dtype=dtype, shard=Shard(1, 2)).model,
        "engine": lambda: start_engine(file, dtype, quantization),
    }
    skeleton(PUBLISHED_CHAT)  # makes torch import what it needs for models without memory: imports, not weights
    shapes = {name: tuple(tensor.shape) for name, tensor in skeleton(config_of(file)).state_dict().items()}
    weights_bytes = weight_bytes(shapes, dtype, quantization)
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = memory_bytes()
    with sampled_anonymous() as samples:
        started = time.perf_counter()
        loaded = ways[way]()
        load_s = time.perf_counter() - started
    peak_bytes = memory_bytes()["VmHWM"] - before["VmRSS"]
    parameters = [one for one in loaded.parameters() if not one.is_meta] if isinstance(loaded, nn.Module) else []
    if way == "shard":
        weights_bytes = sum(parameter.nbytes for parameter in parameters)
    started = time.perf_counter()
    for parameter in parameters:
        parameter.view(torch.uint8).amax()
    first_read_s = time.perf_counter() - started
    return {
        "way": way,
        "dtype": str(dtype).removeprefix("torch."),
        "quantization": quantization,
        "weights_bytes": weights_bytes,
        "load_s": round(load_s, 2),
        "first_read_s": round(first_read_s, 2),
        "cpu_s": round(resource.getrusage(resource.RUSAGE_SELF).ru_utime, 2),
        "peak_bytes": peak_bytes,
        "peak_ratio": round(peak_bytes / weights_bytes, 3),
        "anonymous_bytes": max(samples) - before["RssAnon"],
        "anonymous_ratio": round((max(samples) - before["RssAnon"]) / weights_bytes, 3),
        "in_use_ratio": round((memory_bytes()["VmRSS"] - before["VmRSS"]) / weights_bytes, 3),
    }


def start_engine(file: Path, dtype: torch.dtype, quantization: Quantization) -> ChatEngine:
    """As a chat worker does it."""
    config = EngineConfig(
        kind="chat",
        checkpoint=str(file),
        dtype=str(dtype).removeprefix("torch."),
        quantization=quantization,
        max_jobs=2,
        kv_bytes=ENGINE_KV_BYTES,
    )
    return create_engine(config, lambda name, value: None)


def load_plainly(file: Path, dtype: torch.dtype) -> nn.Module:
    """The usual way: the whole file read into memory, then copied into an allocated model."""
    tensors = torch.load(file, map_location="cpu", weights_only=True)
    names = {published_name("chat", ours): ours for ours in skeleton(config_of(file)).state_dict()}
    model = skeleton(config_of(file)).to(dtype).to_empty(device="cpu")
    model.load_state_dict({names[name]: tensor for name, tensor in tensors.items()})
    return model


def config_of(file: Path) -> ChatConfig:
    from models.checkpoints.loading import open_checkpoint

    config = open_checkpoint(file).config
    assert isinstance(config, ChatConfig)
    return config


@contextlib.contextmanager
def sampled_anonymous(interval_s: float = 0.005) -> Iterator[list[int]]:
    """Anonymous memory over time, and once more at the end."""
    samples = [memory_bytes()["RssAnon"]]
    stop = threading.Event()

    def sample() -> None:
        while not stop.wait(interval_s):
            samples.append(memory_bytes()["RssAnon"])

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        stop.set()
        thread.join()
        samples.append(memory_bytes()["RssAnon"])


def memory_bytes() -> dict[str, int]:
    lines = Path("/proc/self/status").read_text().splitlines()
    return {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.endswith("kB")}


def evict(file: Path) -> None:
    """Drop the file from the page cache, so that it is read from the disk."""
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def print_row(row: dict[str, Any], with_head: bool) -> None:
    if with_head:
        print(
            f"{'way':<8} {'dtype':<8} {'':<5} {'weights':>10} {'load':>9} {'read':>9} {'peak':>16} {'anonymous':>16} "
            f"{'in use':>7}"
        )
    kind = f"{row['way']:<8} {row['dtype']:<8} {row['quantization'].replace('off', ''):<5}"
    print(
        f"{kind} {row['weights_bytes'] / 1e9:>7.2f} GB {row['load_s']:>7.2f} s "
        f"{row['first_read_s']:>7.2f} s {row['peak_bytes'] / 1e9:>6.2f} GB {row['peak_ratio']:>5.2f} x "
        f"{row['anonymous_bytes'] / 1e9:>6.2f} GB {row['anonymous_ratio']:>5.2f} x {row['in_use_ratio']:>5.2f} x",
        flush=True,
    )


def _root() -> str:
    return str(Path(__file__).resolve().parent.parent)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=4.0, help="size of the checkpoint at least (default: 4)")
    parser.add_argument("--folder", type=Path, help="where the temporary folder goes; needs the checkpoint's size free")
    parser.add_argument("--cold", action="store_true", help="drop the file from the page cache before each load")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS, help="default: all")
    parser.add_argument("--measure", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--dtype", choices=DTYPES, default="float16", help=argparse.SUPPRESS)
    parser.add_argument("--quantization", choices=get_args(Quantization), default="off", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
