"""Pictures a second of the paint engine: one request, four candidates of one, eight requests at once, other samplers.

Beside it in the same run: the reference's algorithm (`reference_paint.py`) and, with `--baseline CHECKOUT`, the engine
of an older checkout. Each side is a process of its own that keeps its networks; the sides take turns, round by round,
and while one paints the others wait. Medians; the exit code says nothing about speed.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

RANDOM = ("full", "tiny")  # checkpoints with random weights (random_engines.py)
ROOT = Path(__file__).parents[1]
SIDE = ROOT / "benchmarks" / "paint_side.py"
LOADS: dict[str, dict[str, Any]] = {
    "one request": {"requests": 1, "candidates": 1, "sampler": "ddpm"},
    "four candidates": {"requests": 1, "candidates": 4, "sampler": "ddpm"},
    "eight requests": {"requests": 8, "candidates": 1, "sampler": "ddpm"},
    "eight requests, dpm++": {"requests": 8, "candidates": 1, "sampler": "dpm++"},
}


class Side:
    """A painter in a process of its own."""

    def __init__(self, command: list[str], checkout: Path) -> None:
        waits_passively = {"OMP_WAIT_POLICY": "passive"}  # or it would take the cores while others paint
        self.process = subprocess.Popen(
            command,
            cwd=checkout,
            env=os.environ | waits_passively | {"PYTHONPATH": str(checkout)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.size_px = self._answer()["size_px"]

    def __enter__(self) -> "Side":
        return self

    def __exit__(self, *error: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(60)

    def paint(self, load: dict[str, Any]) -> float:
        """Seconds."""
        assert self.process.stdin is not None
        print(json.dumps(load), file=self.process.stdin, flush=True)
        return float(self._answer()["seconds"])

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"a side ended with code {self.process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def main() -> int:
    options = _parser().parse_args()
    command = [sys.executable, str(SIDE)]
    settings = ["--device", options.device, "--threads", str(options.threads)]
    if options.checkpoint:
        is_folder = options.checkpoint not in RANDOM
        settings += ["--checkpoint", str(Path(options.checkpoint).resolve()) if is_folder else options.checkpoint]
    with ExitStack() as stack:
        sides = {
            "engine": stack.enter_context(Side([*command, "engine", "--dtype", options.dtype, *settings], ROOT)),
            "reference": stack.enter_context(Side([*command, "reference", *settings], ROOT)),
        }
        if options.baseline is not None:
            older = [*command, "engine", "--dtype", options.dtype, *settings]
            sides["before"] = stack.enter_context(Side(older, options.baseline.resolve()))
        seconds = measure(sides, options.loads, options.rounds, options.steps)
    rows = [row(name, LOADS[name], seconds) for name in options.loads]
    print_table(rows, list(sides))
    summary = ratios(seconds)
    for name, value in summary.items():
        print(f"{name:>45} {value:8.2f}")
    result = {"benchmark": "paint", "cores": os.cpu_count(), "device": options.device, "dtype": options.dtype}
    print(json.dumps({**result, "steps": options.steps, "rounds": options.rounds, **summary, "rows": rows}))
    return 0


def measure(sides: dict[str, Side], loads: list[str], rounds: int, steps: int) -> dict[str, dict[str, list[float]]]:
    """Seconds by load and side; the first round warms up and does not count."""
    seconds: dict[str, dict[str, list[float]]] = {name: {side: [] for side in sides} for name in loads}
    for number in range(rounds + 1):
        for name in loads:
            load = LOADS[name]
            for side, painter in sides.items():
                is_ddpm = load["sampler"] == "ddpm"
                if not is_ddpm and side != "engine":
                    continue
                taken_s = painter.paint({**load, "steps": steps if is_ddpm else steps // 2})
                if number:
                    seconds[name][side].append(taken_s)
    return seconds


def row(name: str, load: dict[str, Any], seconds: dict[str, dict[str, list[float]]]) -> dict[str, Any]:
    pictures = load["requests"] * load["candidates"]
    rates = {side: pictures / statistics.median(taken) for side, taken in seconds[name].items() if taken}
    return {"load": name, **{f"{side}_pictures_per_s": round(rate, 3) for side, rate in rates.items()}}


def ratios(seconds: dict[str, dict[str, list[float]]]) -> dict[str, float]:
    """Medians of each round's ratio: of neighbouring runs, which share what else the machine does."""

    def paired(first: list[float], second: list[float]) -> float:
        return round(statistics.median(a / b for a, b in zip(first, second, strict=True)), 3)

    found = {}
    for name, sides in seconds.items():
        for side, taken in sides.items():
            if side != "engine" and taken:
                found[f"{name}: times as fast as {side}"] = paired(taken, sides["engine"])
    if not {"four candidates", "one request"} <= set(seconds):
        return found
    four, one = seconds["four candidates"]["engine"], seconds["one request"]["engine"]
    found["four candidates: times the time of one"] = paired(four, one)
    if before := seconds["one request"].get("before"):
        found["four candidates: times the time of one before"] = paired(four, before)
    return found


def print_table(rows: list[dict[str, Any]], sides: list[str]) -> None:
    print(f"{'pictures/s':<24}" + "".join(f"{side:>12}" for side in sides))
    for each in rows:
        rates = (each.get(f"{side}_pictures_per_s") for side in sides)
        print(f"{each['load']:<24}" + "".join(f"{'':>12}" if rate is None else f"{rate:12.2f}" for rate in rates))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--baseline", type=Path, metavar="CHECKOUT", help="an older checkout, measured as well")
    parser.add_argument("--checkpoint", help="folder, or full or tiny with random weights; without: the bundled one")
    parser.add_argument("--loads", nargs="+", default=list(LOADS), choices=LOADS, metavar="LOAD", help=", ".join(LOADS))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", help="of the engines; the reference is float32")
    parser.add_argument("--threads", type=int, default=0, help="of torch in each side; 0: its default")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=50)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
