"""`make gpu-check`: on a CUDA device, parity, the attention kernel, and service and benchmarks with full-size models.

    python benchmarks/gpu_check.py [--wheels DIR] [--steps parity,kernel,chat,paint,speed]

Prints a table for people, writes it to benchmarks/results/DEVICE.{json,md} and prints it as one JSON line for scripts.
Exit code 1 when anything is off, or slower than its bar. It takes less than eight minutes of the device, which may be a
bare machine with torch and transformers: `make gpu-wheels` on another machine collects what is missing there, and
--wheels puts it on the path of this run alone.

The full-size models have random weights, made on the device itself: about 21 GB each, one after the other. `chat` and
`paint` go the whole way, HTTP → bus → worker → device; `speed` runs benchmarks/chat.py and paint.py beside their
baselines. The floor of a decode step is one read of the language model's weights at the memory bandwidth measured in
the same run.

Without CUDA it refuses; `--device cpu --tiny` runs the same steps on small models, to test this program itself.
"""

import argparse
import functools
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # started as a file, on a machine where the project is not installed
STEPS = ("parity", "kernel", "chat", "paint", "speed")
GPU_MEMORY = ("viscpm_gpu_memory_used_bytes", "viscpm_gpu_memory_reserved_bytes", "viscpm_gpu_memory_free_bytes")
READY_LIMIT_S = 600.0
LLM_PARAMETERS = 9_616_080_896  # SPEC §1.1
DTYPE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
ON_CPU = ("float32", "float16")  # of which Triton's interpreter knows the arithmetic
TOGETHER = 64

BARS = {  # at full size: what a row's figure must reach, or may take at most
    "one request, share of the weights' roofline": (0.7, "at least"),
    "one request, times the reference's tokens/s": (6.0, "at least"),
    "64 requests, times one request's tokens/s": (60.0, "at least"),
    "four pictures, s": (1.2, "at most"),
    "four pictures, times as fast as the reference": (5.0, "at least"),
}

Row = dict[str, Any]  # check, result, is_good


def main() -> int:
    options = _options()
    if options.tiny:
        options.dtype = "float32"
    if options.device == "cpu":
        os.environ["TRITON_INTERPRET"] = "1"  # the kernels' only way there, chosen when Triton is first imported
    if options.wheels:
        return _run_with_wheels(options.wheels)
    import torch

    if options.device != "cpu" and not torch.cuda.is_available():
        print(f"gpu-check needs a CUDA device, and torch {torch.__version__} finds none", file=sys.stderr)
        return 1
    if options.device == "cpu" and not options.tiny:
        print("gpu-check on the CPU goes with --tiny: the full-size models take 20 GB and minutes", file=sys.stderr)
        return 1
    where = torch.cuda.get_device_name() if options.device != "cpu" else platform.processor() or "CPU"
    rows: list[Row] = []
    if "parity" in options.steps:
        rows += [_parity(options.device, dtype) for dtype in options.dtypes]
    bandwidth = _bandwidth(options.device)  # bytes a second
    if "kernel" in options.steps:
        rows += [
            _kernel(options.device, dtype) for dtype in options.dtypes if options.device != "cpu" or dtype in ON_CPU
        ]
        rows += [_step_by_kernel(options.device)]
        rows += [] if options.device == "cpu" else [_kernel_speed(options.device, bandwidth)]
    for kind in ("chat", "paint"):
        if kind in options.steps:
            rows += _serve(kind, options, bandwidth)
    if "speed" in options.steps:
        rows += _chat_speed(options, bandwidth) + _paint_speed(options)
    result = {
        "benchmark": "gpu_check",
        "device": where,
        "torch": torch.__version__,
        "size": "tiny" if options.tiny else "full",
        "dtype": options.dtype,
        "rows": rows,
    }
    _report(result, options.results)
    return 0 if all(row["is_good"] for row in rows) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N, or cpu with --tiny")
    parser.add_argument("--dtype", default="float16", choices=DTYPE_BYTES, help="of the full-size models")
    parser.add_argument("--dtypes", type=_names, default=list(DTYPE_BYTES), help="of parity, with commas between")
    parser.add_argument("--steps", type=_names, default=list(STEPS), help=", ".join(STEPS))
    parser.add_argument("--tiny", action="store_true", help="small models")
    parser.add_argument("--wheels", type=Path, metavar="DIR", help="wheels to put on the path of this run")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    return parser.parse_args()


def _names(text: str) -> list[str]:
    return text.split(",")


def _run_with_wheels(wheels: Path) -> int:
    """This program again, with the wheels installed into a folder that goes away."""
    with tempfile.TemporaryDirectory() as site:
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", site]
        subprocess.run([*install, *map(str, sorted(wheels.glob("*.whl")))], check=True)
        flags = sys.argv[1:]
        position = next(i for i, flag in enumerate(flags) if flag.startswith("--wheels"))
        del flags[position : position + (1 if "=" in flags[position] else 2)]
        path = os.pathsep.join(filter(None, [site, os.environ.get("PYTHONPATH")]))
        return subprocess.run([sys.executable, __file__, *flags], env={**os.environ, "PYTHONPATH": path}).returncode


def _parity(device: str, dtype: str) -> Row:
    command = [sys.executable, "-m", "models.parity", "tests/parity", "--device", device, "--dtype", dtype]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    lines = (process.stdout + process.stderr).splitlines()
    if process.returncode != 0:
        print("\n".join(line for line in lines if "fail" in line.lower()) or "\n".join(lines[-20:]))
    return {"check": f"parity {dtype}", "result": lines[-1] if lines else "", "is_good": process.returncode == 0}


def _bandwidth(device: str) -> float:
    """Bytes a second that a copy within the device's memory reads and writes."""
    import torch

    source = torch.empty(2**30 if device != "cpu" else 2**26, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    target.copy_(source)
    _synchronize(device)
    started_s = time.perf_counter()
    for _ in range(10):
        target.copy_(source)
    _synchronize(device)
    seconds = time.perf_counter() - started_s
    del source, target
    if device != "cpu":
        torch.cuda.empty_cache()
    return 10 * 2 * (2**30 if device != "cpu" else 2**26) / seconds


def _synchronize(device: str) -> None:
    import torch

    if device != "cpu":
        torch.cuda.synchronize(device)


def _kernel(device: str, dtype: str) -> Row:
    """The attention kernel against attention request by request, of one request in parts and of sixteen."""
    import torch

    from models.engines.chat.paged import attention, self_check

    if device == "cpu":
        attention.PROGRAMS = 1  # the interpreter runs them one after the other
    heads, width = (32, 128) if device != "cpu" else (1, 16)
    limit = self_check.LIMITS[getattr(torch, dtype)]
    error = self_check.largest_error(heads, width, getattr(torch, dtype), torch.device(device))
    is_good = error <= limit
    return {"check": f"attention kernel {dtype}", "result": f"off by {error:.1e}, limit {limit:g}", "is_good": is_good}


def _step_by_kernel(device: str) -> Row:
    """Whole answers of a small model in float32 by the kernel (on CUDA as graphs), and request by request."""
    from benchmarks.random_engines import create_chat
    from models.engines.chat import batch
    from models.engines.chat import engine as chat_engine
    from models.engines.chat.forward import Forward, GroupedForward
    from models.engines.chat.kv_pool import KVPool
    from models.engines.chat.paged.forward import PagedForward
    from models.jobs import ChatGeneration, ChatJob, EngineConfig, Generated

    num_jobs, longest = (2, 3) if device == "cpu" else (9, 40)
    config = EngineConfig(kind="chat", checkpoint="tiny", device=device, max_jobs=num_jobs, kv_bytes=2**23)

    def answers(way: "Callable[..., Forward]") -> dict[str, list[int]]:
        batch.choose_forward = way  # type: ignore[attr-defined]
        engine = create_chat(config, lambda name, value: None)
        for number in range(num_jobs):
            generation = ChatGeneration(max_new_tokens=longest, num_beams=1 + number % 4)
            engine.admit(ChatJob(job_id=str(number), question="Why? " * (number + 1), generation=generation))
        found: dict[str, list[int]] = {}
        while len(found) < num_jobs:
            found |= {job: event.result.token_ids for job, event in engine.step() if isinstance(event, Generated)}
        return found

    chosen = batch.choose_forward  # type: ignore[attr-defined]
    chat_engine.KVPool = functools.partial(KVPool, is_by_head=False)  # type: ignore[attr-defined]  # also on a CPU
    try:
        plain, by_kernel = answers(GroupedForward), answers(PagedForward)
    finally:
        batch.choose_forward = chosen  # type: ignore[attr-defined]
        chat_engine.KVPool = KVPool  # type: ignore[attr-defined]
    same = sum(plain[job] == by_kernel[job] for job in plain)
    return {
        "check": "steps by the kernel",
        "result": f"{same} of {num_jobs} answers equal",
        "is_good": same == num_jobs,
    }


def _kernel_speed(device: str, bandwidth: float) -> Row:
    """A layer's attention of one request and of many at the published sizes, beside going request by request."""
    import torch

    from models.engines.chat.paged.self_check import MadeUpStep

    parts = []
    with torch.inference_mode():
        for count in (1, TOGETHER):
            sizes = [(3, 200, 60)] * count
            step = MadeUpStep.draw(32, 128, torch.float16, torch.device(device), seed=0, sizes=sizes)
            slots = sum(request.prompt_length + request.answer.size for request in step.requests)
            kernel_s, grouped_s = (_attention_s(attend, device) for attend in (step.paged(), step.grouped()))
            share = slots * 2 * 32 * 128 * 2 / kernel_s / bandwidth
            parts.append(f"{count}: {kernel_s * 1e6:.0f} µs, not {grouped_s * 1e6:.0f}, {share:.0%} of bandwidth")
    return {"check": "attention of a layer", "result": "; ".join(parts), "is_good": True}


def _attention_s(attend: "Callable[[], object]", device: str) -> float:
    for _ in range(3):
        attend()
    _synchronize(device)
    started_s = time.perf_counter()
    for _ in range(50):
        attend()
    _synchronize(device)
    return (time.perf_counter() - started_s) / 50


def _chat_speed(options: argparse.Namespace, bandwidth: float) -> list[Row]:
    together, longest = (4, 20) if options.tiny else (TOGETHER, 128)
    flags = ["--size", "tiny" if options.tiny else "full", "--together", str(together), "--longest", str(longest)]
    flags += ["--device", options.device, "--dtype", options.dtype, "--sides", "ours", "reference", "--rounds", "1"]
    measured = _benchmark("chat", flags)
    if measured is None:
        return [{"check": "chat speed", "result": "no result", "is_good": False}]
    one, many, reference = (measured["tokens_per_s"][name] for name in ("ours, 1", f"ours, {together}", "reference, 1"))
    rows = [
        _rated("one request, times the reference's tokens/s", one / reference, f"{one:.1f} tokens/s", options.tiny),
    ]
    rows += [
        _rated(f"{together} requests, times one request's tokens/s", many / one, f"{many:.1f} tokens/s", options.tiny)
    ]
    if not options.tiny:
        floor_s = LLM_PARAMETERS * DTYPE_BYTES[options.dtype] / bandwidth
        rows += [
            _rated(
                "one request, share of the weights' roofline", one * floor_s, f"{1 / one * 1e3:.1f} ms a token", False
            )
        ]
    return rows


def _paint_speed(options: argparse.Namespace) -> list[Row]:
    flags = ["--checkpoint", "tiny" if options.tiny else "full", "--device", options.device, "--dtype", options.dtype]
    flags += ["--loads", "four candidates", "--rounds", "1", "--steps", "2" if options.tiny else "50"]
    measured = _benchmark("paint", flags)
    if measured is None:
        return [{"check": "paint speed", "result": "no result", "is_good": False}]
    rate = measured["rows"][0]["engine_pictures_per_s"]
    ratio = measured["four candidates: times as fast as reference"]
    return [
        _rated("four pictures, s", 4 / rate, f"{rate:.2f} pictures/s", options.tiny),
        _rated("four pictures, times as fast as the reference", ratio, "in float32", options.tiny),
    ]


def _rated(check: str, value: float, told: str, is_tiny: bool) -> Row:
    """A figure, at full size beside its bar."""
    bar, sense = (None, "") if is_tiny else BARS[check]
    is_good = bar is None or (value >= bar if sense == "at least" else value <= bar)
    wanted = "" if bar is None else f", {sense} {bar:g} wanted"
    return {"check": check, "result": f"{value:.2f} ({told}){wanted}", "value": value, "bar": bar, "is_good": is_good}


def _benchmark(name: str, flags: list[str]) -> dict[str, Any] | None:
    """What a benchmark prints last, as JSON."""
    command = [sys.executable, f"benchmarks/{name}.py", *flags]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    process = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
    if process.returncode != 0:
        print("\n".join(process.stderr.splitlines()[-20:]))
        return None
    measured: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return measured


def _serve(kind: str, options: argparse.Namespace, bandwidth: float) -> list[Row]:
    """Start the service with one random model, ask it once to warm up and once for the record, read its metrics."""
    upper = kind.upper()
    clean = {name: value for name, value in os.environ.items() if not name.startswith("VISCPM_")}
    environment = {
        **clean,
        f"VISCPM_{upper}_ENGINE": f"benchmarks.random_engines:create_{kind}",
        f"VISCPM_{upper}_CHECKPOINT": "tiny" if options.tiny else "full",
        f"VISCPM_{upper}_DEVICE": options.device,
        f"VISCPM_{upper}_DTYPE": options.dtype,
        "VISCPM_SAFETY": "off",  # its libraries are not carried along
    }
    with tempfile.TemporaryDirectory() as folder:
        log_path = Path(folder) / "log"
        command = [
            sys.executable,
            "-m",
            "service.process.cli",
            "serve",
            "--models",
            kind,
            "--port",
            "0",
            "--data-dir",
            folder,
        ]
        with open(log_path, "wb") as log:
            process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        try:
            url = _wait_ready(process, log_path)
            if url is None:
                return [{"check": f"{kind} start", "result": log_path.read_text()[-2000:], "is_good": False}]
            ask = _ask_chat if kind == "chat" else _ask_paint
            ask(url, options.tiny)
            rows = ask(url, options.tiny)
            if kind == "chat" and not options.tiny:
                floor_ms = LLM_PARAMETERS * DTYPE_BYTES[options.dtype] / (bandwidth / 2) * 1000
                floor = f"{floor_ms:.1f} ms at {bandwidth / 1e12:.2f} TB/s read and written"
                rows.append({"check": "chat decode step, floor", "result": floor, "is_good": True})
            return [*rows, *_memory(url, kind, options.device)]
        finally:
            process.terminate()
            process.wait(90)


def _wait_ready(process: "subprocess.Popen[bytes]", log_path: Path) -> str | None:
    deadline_s = time.monotonic() + READY_LIMIT_S
    while process.poll() is None and time.monotonic() < deadline_s:
        log = log_path.read_text(errors="replace")
        if "ready on " in log:
            return log.split("ready on ")[1].split(": ")[0]
        time.sleep(0.2)
    return None


def _ask_chat(url: str, is_tiny: bool) -> list[Row]:
    # Text alone would leave the tower out: a plain grey picture, written as a BMP by hand
    body = {"image": _grey_bmp(), "question": "What is in this picture?", "max_new_tokens": 16 if is_tiny else 64}
    answer, wall_s = _post(f"{url}/chat", body)
    tokens, timings = answer["usage"]["completion_tokens"], answer["timings"]
    step_ms = timings["decode_ms"] / max(1, tokens - 1)
    parts = f"prefill {timings['prefill_ms']:.1f} ms, {tokens} tokens at {step_ms:.1f} ms with 3 beams"
    return [{"check": "chat", "result": f"{wall_s:.2f} s: {parts}", "is_good": tokens > 1, "step_ms": step_ms}]


def _ask_paint(url: str, is_tiny: bool) -> list[Row]:
    steps = 4 if is_tiny else 50
    answer, wall_s = _post(f"{url}/paint", {"prompt": "a lighthouse", "num_inference_steps": steps, "seed": 1})
    denoise_ms = answer["timings"]["denoise_ms"]
    parts = f"{steps} steps at {denoise_ms / steps:.1f} ms, pictures {answer['timings']['decode_ms']:.0f} ms"
    is_good = len(answer["data"]) == 1
    return [{"check": "paint", "result": f"{wall_s:.2f} s: {answer['size']}, {parts}", "is_good": is_good}]


def _post(url: str, body: dict[str, Any]) -> tuple[dict[str, Any], float]:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    started_s = time.perf_counter()
    with urllib.request.urlopen(request, timeout=900) as response:
        answer: dict[str, Any] = json.load(response)
    return answer, time.perf_counter() - started_s


def _grey_bmp() -> str:
    import base64
    import struct

    side = 64
    pixels = bytes([127] * 3 * side * side)
    header = struct.pack("<2sIHHI", b"BM", 54 + len(pixels), 0, 0, 54)
    info = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 24, 0, len(pixels), 2835, 2835, 0, 0)
    return base64.b64encode(header + info + pixels).decode()


def _memory(url: str, kind: str, device: str) -> list[Row]:
    """Used, reserved and free device memory in the scrape, over zero on a CUDA device and absent on a CPU."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as response:
        lines = response.read().decode().splitlines()
    values = {
        name: sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"{name}{{"))
        for name in GPU_MEMORY
    }
    shown = ", ".join(f"{name.split('_')[3]} {value / 2**30:.2f} GiB" for name, value in values.items())
    is_good = all(values.values()) if device != "cpu" else not any(values.values())
    return [{"check": f"{kind} memory in /metrics", "result": shown, "is_good": is_good}]


def _report(result: dict[str, Any], folder: Path) -> None:
    heading = f"{result['device']}, torch {result['torch']}, {result['size']} models in {result['dtype']}"
    print(heading)
    for row in result["rows"]:
        print(f"{'ok  ' if row['is_good'] else 'FAIL'} {row['check']:45} {row['result']}")
    folder.mkdir(parents=True, exist_ok=True)
    line = json.dumps(result, ensure_ascii=False)
    name = "-".join(re.findall(r"[a-z0-9]+", result["device"].lower())) + ("-tiny" if result["size"] == "tiny" else "")
    (folder / f"{name}.json").write_text(line + "\n")
    cells = [
        f"| {row['check']} | {row['result']} | {'yes' if row['is_good'] else '**no**'} |" for row in result["rows"]
    ]
    table = ["| check | result | as wanted |", "| --- | --- | --- |", *cells]
    (folder / f"{name}.md").write_text("\n".join([f"`make gpu-check` on {heading}.", "", *table]) + "\n")
    print(line)


if __name__ == "__main__":
    sys.exit(main())
