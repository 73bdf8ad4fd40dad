"""Memory that the engines take, whole and with streamed layers, beside what was computed; and what streaming costs.

    python benchmarks/memory.py [--size mid] [--parts memory answers times] [--cases off copies warm] [--rounds 5]
                                [--tokens 12] [--json FILE]

Random checkpoints are written to a temporary folder. `mid`: Chat of width 512, 12 layers and 8 heads in float32, with a
vocabulary of the published size, which is more than its layers, and Paint with such a language model. `published`: Chat
of the published widths in float16, as it is published, with few layers and a vocabulary in proportion to them; it is
computed in float32. Streamed layers are copied out of the mapped file. A prompt has some 170 tokens.

weights   on the device, from the tensors: layers, embedding, everything else.
resident  of a process of its own with one engine, beyond its imports, after answers: what it holds but for the pool.
peak      the same at its highest, loading included.
copies    the file's pages are dropped after every pass, as on a machine whose memory is too small for them: copying
          takes longer than computing, as it does on a GPU. `warm`: the file stays in the page cache.
first     the step in which the prompts are read, the first of them where all layers are on the device.
next      the median of the other steps, a token of every answer each.
longer    an answer of 64 tokens: the whole, and as many more steps like `next`.
"""

import argparse
import io
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from PIL import Image
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
LONGER_TOKENS = 64
INPUT_TOKENS = 1000  # of a talk at most
TALK_QUESTION = QUESTION
LIMIT_RATIO = 1.3
LIMIT_DIFFERENCE = 1  # of a picture's bytes: streamed layers add up in another order
POOL_BYTES = 256 * 2**20
WAYS: tuple[Offload, ...] = ("off", "streamed")
PARTS = ("memory", "answers", "times")
CASES = ("off", "copies", "warm")  # of times
UNET = {
    "attention_head_dim": [1, 2, 2, 2],
    "block_out_channels": [8, 16, 16, 16],
    "cross_attention_dim": 32,
    "norm_num_groups": 4,
    "sample_size": 16,
}


# Checkpoints ---------------------------------------------------------------------------------------------------------


def write_checkpoints(folder: Path, size: str, num_layers: int) -> None:
    """`chat`, and of the mid size `paint` too, random."""
    if size == "mid":
        # As a processor computes with them
        llm, dtype = CPMBeeConfig(PUBLISHED_LLM.vocab_size, half=False, **SIZES["mid"]), torch.float32
    else:
        vocab_size = PUBLISHED_LLM.vocab_size * num_layers // PUBLISHED_LLM.num_layers
        llm, dtype = replace(PUBLISHED_LLM, num_layers=num_layers, vocab_size=vocab_size), torch.float16
    entries = vocabulary(llm.vocab_size)
    chat_config = ChatConfig(llm=llm, vision=VISION, num_query_tokens=4)
    _write(folder / "chat", "chat", chat_config, random_chat(chat_config, "cpu", dtype, 7), entries)
    if size != "mid":
        return
    paint_config = PaintConfig(llm=llm, unet={**SD21_BASE_UNET, **UNET})
    _write(folder / "paint", "paint", paint_config, random_paint(paint_config, "cpu", dtype, 8), entries)
    tiny_vae(2).save_pretrained(folder / "paint/vae")
    write_json(folder / "paint" / SCHEDULER_CONFIG_FILE, SD21_BASE_SCHEDULER)


def vocabulary(size: int) -> list[str]:
    """With the question's words, so that it is as long as under the published vocabulary."""
    entries = tiny_vocabulary()
    words = [f" {word}" for word in sorted(set(re.findall(r"\w+", QUESTION)))]
    entries += [word for word in words if word not in entries]
    return [*entries, *(f"filler{number}" for number in range(size - len(entries)))]


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


def questions(count: int, num_tokens: int = TOKENS) -> list[ChatJob]:
    generation = ChatGeneration(max_new_tokens=num_tokens, num_beams=BEAMS)
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


def tokens(results: dict[str, ChatResult]) -> dict[str, list[int]]:
    return {job_id: result.token_ids for job_id, result in results.items()}


def picture(results: dict[str, PaintResult]) -> "np.ndarray[Any, np.dtype[np.int16]]":
    """Of the first job: its bytes, which may be subtracted."""
    return np.asarray(Image.open(io.BytesIO(results["0"].candidates[0].png)), dtype=np.int16)


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


def times(
    folder: Path, engines: dict[Offload, Any], cases: Sequence[str], rounds: int, num_tokens: int
) -> dict[str, list[list[float]]]:
    """Seconds of all steps of one request and of eight at once, in turns; streamed ones with a cold and a warm file."""
    files = [file for file in (folder / "chat").iterdir() if file.suffix == ".safetensors"]

    def drop() -> None:
        for file in files:
            evict(file)

    found: dict[str, list[list[float]]] = {}
    for _ in range(rounds):
        for case in cases:
            engine = engines["off" if case == "off" else "streamed"]
            after_step = drop if case == "copies" else lambda: None
            finish(engine, questions(1, 1), after_step)  # the file is in the page cache from here on, or dropped
            for count in (1, TOGETHER):
                found.setdefault(f"{case}, {count}", []).append(
                    steps_s(engine, questions(count, num_tokens), after_step)
                )
            tell(f"{case} measured")
    return found


def steps_s(engine: Engine, jobs: Sequence[Any], after_step: Callable[[], None]) -> list[float]:
    """What is done after a step counts as a part of the next one: copies go on meanwhile."""
    ends_s = [time.perf_counter()]

    def note() -> None:
        ends_s.append(time.perf_counter())
        after_step()

    finish(engine, jobs, note)
    return [end - start for start, end in pairwise(ends_s)]


# Report --------------------------------------------------------------------------------------------------------------


def report(folder: Path, kinds: Sequence[Kind], options: argparse.Namespace) -> dict[str, Any]:
    parts, cases = options.parts, options.cases
    found: dict[str, Any] = {"cores": os.cpu_count(), "threads": torch.get_num_threads(), "passed": True}
    if "memory" in parts:
        found["memory_bytes"] = {
            f"{kind}, {way}": weights_bytes(folder, kind, way) | measured_apart(folder, kind, way)
            for kind in kinds
            for way in WAYS
        }
        tell("memory measured")
    wanted = {"off": "answers" in parts or "off" in cases, "streamed": parts != ["memory"]}
    engines: dict[Offload, Any] = {way: create(folder, "chat", way) for way in WAYS if wanted[way]}
    if "answers" in parts:
        same = {way: tokens(finish(engine, questions(TOGETHER))) for way, engine in engines.items()}
        found["equal_tokens"] = found["passed"] = same["off"] == same["streamed"]
        if "paint" in kinds:
            painted = {way: picture(finish(create(folder, "paint", way), prompts())) for way in WAYS}
            found["picture_difference"] = int(abs(painted["off"] - painted["streamed"]).max())
            found["passed"] &= found["picture_difference"] <= LIMIT_DIFFERENCE
        found["kv_bytes_per_token"] = kv_bytes(engines["streamed"])
        if "paint" in kinds:
            found["talk"] = {way: long_talk(engine) for way, engine in engines.items()}
        tell("answers compared")
    if "times" in parts:
        found["steps_s"] = times(folder, engines, cases, options.rounds, options.tokens)
        found[f"{TOGETHER} / 1"] = {case: ratios(found["steps_s"], case) for case in cases}
        if "copies" in cases:
            found["passed"] &= found[f"{TOGETHER} / 1"]["copies"]["whole"] <= LIMIT_RATIO
    return found


def ratios(steps_s: dict[str, list[list[float]]], name: str) -> dict[str, float]:
    """Medians of what eight requests take beside one, each round's by itself."""
    rounds = list(zip(steps_s[f"{name}, {TOGETHER}"], steps_s[f"{name}, 1"], strict=True))
    return {
        part: round(statistics.median(measured(above) / measured(below) for above, below in rounds), 3)
        for part, measured in MEASURED.items()
    }


MEASURED: dict[str, Callable[[Sequence[float]], float]] = {
    "whole": sum,
    "first": lambda steps: steps[0],
    "next": lambda steps: statistics.median(steps[1:]),
    "longer": lambda steps: sum(steps) + (LONGER_TOKENS - len(steps) + 1) * statistics.median(steps[1:]),
}


def tell(progress: str) -> None:
    print(progress, file=sys.stderr, flush=True)


def print_table(found: dict[str, Any]) -> None:
    if "memory_bytes" in found:
        columns = ("layers", "embedding", "rest", "resident", "anonymous", "peak")
        print(f"{'MB':<18}" + "".join(f"{name:>11}" for name in columns))
        for name, row in found["memory_bytes"].items():
            print(f"{name:<18}" + "".join(f"{row[column] / 1e6:>11.1f}" for column in columns))
    if "equal_tokens" in found:
        kv = found["kv_bytes_per_token"]
        print(f"keys and values of a token: {kv['computed']} bytes computed, {kv['allocated']} in the pool")
        print(f"equal tokens: {found['equal_tokens']}")
    if "picture_difference" in found:
        print(f"a picture's bytes differ by at most {found['picture_difference']} of 255")
    for way, talk in found.get("talk", {}).items():
        print(f"talk, {way}: " + ", ".join(f"{what} {count}" for what, count in talk.items()))
    if "steps_s" in found:
        print(f"{'s, medians':<24}" + "".join(f"{part:>8}" for part in MEASURED) + "   whole, by round")
    for name, rounds in found.get("steps_s", {}).items():
        medians = [statistics.median(map(measured, rounds)) for measured in MEASURED.values()]
        wholes = ", ".join(f"{sum(steps):.2f}" for steps in rounds)
        print(f"{name:<24}" + "".join(f"{median:>8.2f}" for median in medians) + f"   {wholes}")
    for name, row in found.get(f"{TOGETHER} / 1", {}).items():
        print(f"{TOGETHER} requests / 1, {name}: " + ", ".join(f"{part} {ratio:.2f}" for part, ratio in row.items()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("mid", "published"), default="mid")
    parser.add_argument("--layers", type=int, default=3, help="of the published size")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="default: all")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), help="whose times; default: all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=TOKENS, help="of an answer, where its time is measured")
    parser.add_argument("--folder", type=Path, help="where the temporary folder goes; on a disk, not in memory")
    parser.add_argument("--json", type=Path, help="also write the JSON line there")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.folder, *options.measure)))
        return 0
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        write_checkpoints(Path(temporary), options.size, options.layers)
        kinds: list[Kind] = ["chat", "paint"] if options.size == "mid" else ["chat"]
        found = report(Path(temporary), kinds, options)
    found = {"benchmark": "memory", "size": options.size, "tokens": options.tokens} | found
    print_table(found)
    print(json.dumps(found))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0 if found["passed"] else 1


def _root() -> str:
    return str(Path(__file__).resolve().parent.parent)


if __name__ == "__main__":
    raise SystemExit(main())
