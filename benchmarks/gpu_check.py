"""`make gpu-check`: on a CUDA device, parity in three precisions, and the service with models of the full size.

    python benchmarks/gpu_check.py [--wheels DIR] [--steps parity,chat,paint]

Prints a table for people, writes it to benchmarks/results/ and prints it as one JSON line for scripts. Exit code 1 when
anything is off. It runs on a bare machine with torch and transformers: `make gpu-wheels` on another machine collects
what is missing there, and --wheels puts it on the path of this run alone.

The full-size models have random weights, made on the device itself: about 21 GB each, one after the other. What is
timed goes the whole way, HTTP → bus → worker → device. The floor of a decode step is one read of the language model's
weights at the memory bandwidth measured in the same run.

Without CUDA it refuses; `--device cpu --tiny` runs the same steps on small models, to test this program itself.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
STEPS = ("parity", "chat", "paint")
GPU_MEMORY = ("viscpm_gpu_memory_used_bytes", "viscpm_gpu_memory_reserved_bytes", "viscpm_gpu_memory_free_bytes")
READY_LIMIT_S = 600.0
LLM_PARAMETERS = 9_616_080_896  # SPEC §1.1
DTYPE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}

Row = dict[str, Any]  # check, result, is_good


def main() -> int:
    options = _options()
    if options.tiny:
        options.dtype = "float32"
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
    for kind in ("chat", "paint"):
        if kind in options.steps:
            rows += _serve(kind, options, bandwidth)
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
    print(f"{result['device']}, torch {result['torch']}, {result['size']} models in {result['dtype']}")
    for row in result["rows"]:
        print(f"{'ok  ' if row['is_good'] else 'FAIL'} {row['check']:24} {row['result']}")
    folder.mkdir(parents=True, exist_ok=True)
    line = json.dumps(result, ensure_ascii=False)
    (folder / f"gpu_check_{result['size']}.json").write_text(line + "\n")
    print(line)


if __name__ == "__main__":
    sys.exit(main())
