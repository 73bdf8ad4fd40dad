"""Memory that the engines take, whole and with streamed layers, beside what was computed; and what streaming costs.

    python benchmarks/memory.py [--rounds 5] [--json FILE]

Random checkpoints are written to a temporary folder: Chat of the mid size (width 512, 12 layers, 8 heads, a vocabulary
of the published size) and Paint with such a language model. Streamed layers are copied out of the mapped file.

weights   on the device, from the tensors: layers, embedding, everything else.
resident  of a process of its own with one engine, beyond its imports, after answers: what it holds but for the pool.
peak      the same at its highest, loading included.
copies    the file's pages are dropped after every pass, as on a machine whose memory is too small for them: copying
          takes longer than computing, as it does on a GPU. `warm`: the file stays in the page cache.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import nn

from benchmarks.chat import BEAMS, QUESTION, SIZES, VISION
from benchmarks.load_memory import evict, memory_bytes
from models.checkpoints.companion_files import SCHEDULER_CONFIG_FILE
from models.checkpoints.config_from_shapes import PUBLISHED_LLM
from models.checkpoints.conversion import write_folder, write_json
from models.checkpoints.published_names import Kind, published_name
from models.checkpoints.random_weights import random_chat, random_paint
from models.checkpoints.tiny import tiny_vae, tiny_vocabulary
from models.engines.chat import engine as chat
from models.engines.chat.kv_pool import slot_bytes
from models.engines.offload.streamed_layers import StreamedLayers
from models.engines.paint import engine as paint
from models.jobs import (
    ChatGeneration,
    ChatJob,
    ChatResult,
    Engine,
    EngineConfig,
    Failed,
    Generated,
    JobRejected,
    Offload,
    PaintJob,
    PaintResult,
    Turn,
)
from models.networks.chat.config import ChatConfig
from models.networks.cpm_bee.config import CPMBeeConfig
from models.networks.paint.config import SD21_BASE_SCHEDULER, SD21_BASE_UNET, PaintConfig

TOGETHER = 8
TOKENS = 12  # of an answer
INPUT_TOKENS = 1000  # of a talk at most
TALK_QUESTION = QUESTION[:200]
LIMIT_RATIO = 1.3
POOL_BYTES = 256 * 2**20
WAYS: tuple[Offload, ...] = ("off", "streamed")
UNET = {
    "attention_head_dim": [1, 2, 2, 2],
    "block_out_channels": [8, 16, 16, 16],
    "cross_attention_dim": 32,
    "norm_num_groups": 4,
    "sample_size": 16,
}


# Checkpoints ---------------------------------------------------------------------------------------------------------


def write_checkpoints(folder: Path) -> None:
    """`chat` and `paint`, random, in float32, so that a processor computes with them as they are stored."""
    entries = tiny_vocabulary()
    entries += [f"filler{number}" for number in range(PUBLISHED_LLM.vocab_size - len(entries))]
    llm = CPMBeeConfig(len(entries), half=False, **SIZES)
    chat_config = ChatConfig(llm=llm, vision=VISION, num_query_tokens=4)
    _write(folder / "chat", "chat", chat_config, random_chat(chat_config, "cpu", torch.float32, 7), entries)
    paint_config = PaintConfig(llm=llm, unet={**SD21_BASE_UNET, **UNET})
    _write(folder / "paint", "paint", paint_config, random_paint(paint_config, "cpu", torch.float32, 8), entries)
    tiny_vae(2).save_pretrained(folder / "paint/vae")
    write_json(folder / "paint" / SCHEDULER_CONFIG_FILE, SD21_BASE_SCHEDULER)


def _write(
    folder: Path, kind: Kind, config: ChatConfig | PaintConfig, model: nn.Module, entries: Sequence[str]
) -> None:
    folder.mkdir(parents=True)
    tensors = {published_name(kind, ours): tensor for ours, tensor in model.state_dict().items()}
    (folder / "vocab.txt").write_text("\n".join(entries), encoding="utf-8")
    write_folder(folder, kind, config, tensors.items(), untrained=True)


# Engines -------------------------------------------------------------------------------------------------------------


def create(folder: Path, kind: Kind, offload: Offload) -> Any:
    config = EngineConfig(
        kind=kind, checkpoint=str(folder / kind), max_jobs=TOGETHER, kv_bytes=POOL_BYTES, offload=offload
    )
    factory = chat.create_engine if kind == "chat" else paint.create_engine
    return factory(config, lambda name, value: None)


def questions(count: int) -> list[ChatJob]:
    generation = ChatGeneration(max_new_tokens=TOKENS, num_beams=BEAMS)
    return [ChatJob(job_id=str(n), question=f"{n} {QUESTION}", generation=generation) for n in range(count)]


def prompts() -> list[PaintJob]:
    return [PaintJob(job_id="0", prompt="a red apple", num_inference_steps=4, height_px=128, width_px=128)]


def finish(engine: Engine, jobs: Sequence[Any], after_step: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """Results by job."""
    for job in jobs:
        engine.admit(job)
    results: dict[str, Any] = {}
    while len(results) < len(jobs):
        for job_id, event in engine.step():
            assert not isinstance(event, Failed), event
            if isinstance(event, Generated):
                results[job_id] = event.result
        after_step()
    return results


def outcomes(results: dict[str, ChatResult | PaintResult]) -> dict[str, object]:
    """What must be the same, by job: tokens, or a picture's bytes."""
    return {
        job_id: result.token_ids if isinstance(result, ChatResult) else result.candidates[0].png
        for job_id, result in results.items()
    }


# Memory --------------------------------------------------------------------------------------------------------------


def device_weights_bytes(model: nn.Module, llm: Any) -> dict[str, int]:
    """Of the device, by part, of a model whose layers are all there or are streamed."""
    layers_bytes = sum(parameter.nbytes for parameter in llm.layers.parameters())
    rest_bytes = sum(parameter.nbytes for parameter in model.parameters()) - layers_bytes - llm.embedding.weight.nbytes
    if isinstance(llm.layers, StreamedLayers):
        layers_bytes = llm.layers.device_bytes
    return {"layers": layers_bytes, "embedding": llm.embedding.weight.nbytes, "rest": rest_bytes}


def weights_bytes(folder: Path, kind: Kind, offload: Offload) -> dict[str, int]:
    """Before a CPU's packing, which lays weights out anew and keeps them out of sight."""
    from models.engines.offload.placement import offload as place

    load = chat.load_chat if kind == "chat" else paint.load_paint
    model = load(folder / kind).model
    if offload == "streamed":
        config = EngineConfig(kind=kind, checkpoint="", offload=offload)
        place(model, model.llm, torch.device("cpu"), torch.float32, config)
        list(model.llm.layers)
    return device_weights_bytes(model, model.llm)


def measure(folder: Path, kind: Kind, offload: Offload) -> dict[str, int]:
    """In this process, which has done nothing else."""
    warm_imports()
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = memory_bytes()
    engine = create(folder, kind, offload)
    finish(engine, questions(2) if kind == "chat" else prompts())
    after = memory_bytes()
    return {
        "resident": after["VmRSS"] - before["VmRSS"],
        "anonymous": after["RssAnon"] - before["RssAnon"],
        "peak": after["VmHWM"] - before["VmRSS"],
    }


def warm_imports() -> None:
    """What torch and diffusers import at first use is no model's memory."""
    from models.checkpoints.bundled import bundled_checkpoint

    for kind, factory in (("chat", chat.create_engine), ("paint", paint.create_engine)):
        factory(EngineConfig(kind=kind, checkpoint=str(bundled_checkpoint(kind)), kv_bytes=1 << 20), lambda *_: None)


def measured_apart(folder: Path, kind: Kind, offload: Offload) -> dict[str, int]:
    command = [sys.executable, __file__, "--measure", kind, offload, "--folder", str(folder)]
    environment = os.environ | {"PYTHONPATH": _root()}
    ended = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    found: dict[str, int] = json.loads(ended.stdout.splitlines()[-1])
    return found


def kv_bytes(engine: Any) -> dict[str, int]:
    """Of one token: by the formula, and as the pool has it."""
    pool, config = engine._runtime.pool, engine._loaded.config.llm
    allocated = sum(tensor.nbytes for tensor in [*pool.keys, *pool.values])
    return {"computed": slot_bytes(config, torch.float32), "allocated": allocated // pool.num_slots}


def long_talk(engine: Any) -> dict[str, int]:
    """Turns of some 200 tokens until the prompt's limit, and beyond it: the oldest turns are left out."""
    generation = ChatGeneration(max_new_tokens=4, num_beams=BEAMS, max_input_tokens=INPUT_TOKENS)
    history: list[Turn] = []
    longest = turns_before = dropped = 0
    while dropped < 2:
        job = ChatJob(job_id="talk", question=TALK_QUESTION, history=list(history), generation=generation)
        result = finish(engine, [job])["talk"]
        longest, dropped = max(longest, result.prompt_tokens), result.dropped_turns
        turns_before += not dropped
        history.append(Turn(question=TALK_QUESTION, answer=result.answer_escaped))
    refused = False
    with suppress(JobRejected):
        engine.admit(msgspec.structs.replace(job, strict_length=True))
        refused = True
    assert not refused, "a strict talk beyond the limit is refused"
    return {"turns until the limit": turns_before, "longest prompt, tokens": longest, "turns after it": 2}


# Time ----------------------------------------------------------------------------------------------------------------


def times(folder: Path, engines: dict[Offload, Any], rounds: int) -> dict[str, list[float]]:
    """Seconds of one request and of eight at once, in turns; streamed ones with a cold and a warm file."""
    files = [file for file in (folder / "chat").iterdir() if file.suffix == ".safetensors"]

    def drop() -> None:
        for file in files:
            evict(file)

    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, engine, after_step in (
            ("off", engines["off"], lambda: None),
            ("streamed, copies", engines["streamed"], drop),
            ("streamed, warm", engines["streamed"], lambda: None),
        ):
            for count in (1, TOGETHER):
                started_s = time.perf_counter()
                finish(engine, questions(count), after_step)
                found.setdefault(f"{name}, {count}", []).append(time.perf_counter() - started_s)
    return found


# Report --------------------------------------------------------------------------------------------------------------


def report(folder: Path, rounds: int) -> dict[str, Any]:
    memory: dict[str, dict[str, int]] = {}
    for kind in ("chat", "paint"):
        for way in WAYS:
            memory[f"{kind}, {way}"] = weights_bytes(folder, kind, way) | measured_apart(folder, kind, way)
    tell("memory measured")
    engines: dict[Offload, Any] = {way: create(folder, "chat", way) for way in WAYS}
    same = {way: outcomes(finish(engine, questions(TOGETHER))) for way, engine in engines.items()}
    painted = {way: outcomes(finish(create(folder, "paint", way), prompts())) for way in WAYS}
    tell("answers compared")
    taken_s = times(folder, engines, rounds)
    tell("times measured")
    pairs = ("off", "streamed, copies", "streamed, warm")
    ratios = {name: _median_ratio(taken_s[f"{name}, {TOGETHER}"], taken_s[f"{name}, 1"]) for name in pairs}
    return {
        "benchmark": "memory",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_bytes": memory,
        "equal_tokens": same["off"] == same["streamed"],
        "equal_pictures": painted["off"] == painted["streamed"],
        "kv_bytes_per_token": kv_bytes(engines["streamed"]),
        "talk": {way: long_talk(engine) for way, engine in engines.items()},
        "seconds": taken_s,
        f"{TOGETHER} / 1": ratios,
        "passed": ratios["streamed, copies"] <= LIMIT_RATIO and same["off"] == same["streamed"],
    }


def tell(progress: str) -> None:
    print(progress, file=sys.stderr, flush=True)


def _median_ratio(above: Sequence[float], below: Sequence[float]) -> float:
    return round(statistics.median(a / b for a, b in zip(above, below, strict=True)), 3)


def print_table(found: dict[str, Any]) -> None:
    columns = ("layers", "embedding", "rest", "resident", "anonymous", "peak")
    print(f"{'MB':<18}" + "".join(f"{name:>11}" for name in columns))
    for name, row in found["memory_bytes"].items():
        print(f"{name:<18}" + "".join(f"{row[column] / 1e6:>11.1f}" for column in columns))
    kv = found["kv_bytes_per_token"]
    print(f"keys and values of a token: {kv['computed']} bytes computed, {kv['allocated']} in the pool")
    print(f"equal tokens: {found['equal_tokens']}; equal pictures: {found['equal_pictures']}")
    for way, talk in found["talk"].items():
        print(f"talk, {way}: " + ", ".join(f"{what} {count}" for what, count in talk.items()))
    print(f"{'s':<24}{'median':>8}   rounds")
    for name, values in found["seconds"].items():
        print(f"{name:<24}{statistics.median(values):>8.2f}   {', '.join(f'{value:.2f}' for value in values)}")
    for name, ratio in found[f"{TOGETHER} / 1"].items():
        print(f"{TOGETHER} requests / 1, {name}: {ratio:.2f}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where the temporary folder goes; on a disk, not in memory")
    parser.add_argument("--json", type=Path, help="also write the JSON line there")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.folder, *options.measure)))
        return 0
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        write_checkpoints(Path(temporary))
        found = report(Path(temporary), options.rounds)
    print_table(found)
    print(json.dumps(found))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0 if found["passed"] else 1


def _root() -> str:
    return str(Path(__file__).resolve().parent.parent)


if __name__ == "__main__":
    raise SystemExit(main())
