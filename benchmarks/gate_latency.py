"""What the safety gate adds to a request at p50, with the bundled screens, beside an open gate.

    python benchmarks/gate_latency.py [--pictures 60] [--guard FOLDER|0.6b [--texts 20]]

Starts a Redis server and one safety worker, and asks the screens as an API process does: each picture is made up, so
that it is seen for the first time; then the same ones again; then labelled prompts. Times include everything between
the gate and the verdict: digest, cache, bus, both screens, policy. Wants two cores that do nothing else. Prints a table
for people, then one JSON line for scripts; exit code 1 where a promise is not kept.

picture     224×224, as Chat's input                  at most 60 ms first seen, 3 ms seen before
candidate   512×512 PNG, as painted                   the same
text        prompts of safety/labelled                at most 2 ms
open gate   the same text with VISCPM_SAFETY=off      the baseline

With a guard in the safety worker, on its processor, texts that the rules let pass are judged by it as well, one after
the other, then as many at once, and the worker's memory is told; no promise is made of them. `0.6b` is a network of
Qwen3Guard-Gen-0.6B's sizes whose weights are made up (benchmarks/steered_guard.py): 2.4 GB are written for it.
"""

import argparse
import asyncio
import io
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

from PIL import Image

from safety.evaluate import LABELLED_DIR, read_labelled
from safety.text.guards.windows import WINDOW_CHARS
from safety.verdict import OpenScreens, Picture, Verdict
from service.core.metrics import Metrics
from service.core.settings import Settings
from service.jobs.screens import Rules, WorkerScreens
from service.jobs.worker_registry import WorkerRegistry
from service.process.embedded_redis import EmbeddedServer
from service.process.parent_death import dies_with_parent
from service.queue.producer import JobProducer
from service.queue.verdict_cache import VerdictCache
from service.redis.connection import RedisConnection, open_redis

LIMITS_MS = {"first seen": 60.0, "seen before": 3.0, "text": 2.0}
_START_S = 900.0  # a guard's weights are read, and a busy machine takes its time
_AT_ONCE = 16
_SEED = 7

_T = TypeVar("_T")


def noise(side_px: int, chance: random.Random) -> Image.Image:
    """A smooth random picture."""
    coarse = Image.frombytes("RGB", (8, 8), chance.randbytes(8 * 8 * 3))
    return coarse.resize((side_px, side_px), Image.Resampling.BICUBIC)


def rgb(side_px: int, chance: random.Random) -> Picture:
    return Picture(noise(side_px, chance).tobytes(), "rgb", side_px, side_px)


def png(side_px: int, chance: random.Random) -> Picture:
    file = io.BytesIO()
    noise(side_px, chance).save(file, "PNG")
    return Picture(file.getvalue(), "png")


async def times_ms(judge: Callable[[_T], Awaitable[Verdict]], contents: Sequence[_T]) -> list[float]:
    """One after the other."""
    times = []
    for content in contents:
        started_s = time.perf_counter()
        await judge(content)
        times.append((time.perf_counter() - started_s) * 1000)
    return times


async def guarded_times_ms(screens: WorkerScreens, rules: Rules, texts: Sequence[str]) -> dict[str, list[float]]:
    """Of texts that the rules let pass, each made up to be new: by itself, and as one of a batch."""

    async def together(number: int) -> float:
        started_s = time.perf_counter()
        batch = [f"{text} ({number}.{place})" for place, text in enumerate((texts * _AT_ONCE)[:_AT_ONCE])]
        await asyncio.gather(*(screens.text("question", text) for text in batch))
        return (time.perf_counter() - started_s) * 1000 / _AT_ONCE

    alone = [f"{text} ({place})" for place, text in enumerate(texts)]
    await times_ms(lambda one: screens.text("question", one), ["how do I fly a kite?"])
    return {
        "guard, one by one": await times_ms(lambda one: screens.text("question", one), alone),
        "guard, kept": await times_ms(lambda one: screens.text("question", one), alone),
        f"guard, a text of {_AT_ONCE}": [await together(number) for number in range(2)],
    }


async def measure(rules: Rules, settings: Settings, num_pictures: int, num_texts: int) -> dict[str, list[float]]:
    redis = open_redis(settings)
    metrics = Metrics("api")
    producer, registry, connection = (
        JobProducer(redis, settings, "benchmark", metrics),
        WorkerRegistry(redis, settings),
        RedisConnection(redis),
    )
    await producer.start()
    await registry.start()
    screens = WorkerScreens(rules, producer, VerdictCache(connection, settings), registry, settings, metrics)
    deadline_s = time.monotonic() + _START_S
    while not registry.is_ready("safety"):
        if time.monotonic() > deadline_s:
            raise SystemExit("the safety worker did not start")
        await asyncio.sleep(0.1)
    chance = random.Random(_SEED)
    pictures = [rgb(224, chance) for _ in range(num_pictures)]
    painted = [png(512, chance) for _ in range(num_pictures)]
    texts = [one.text for path in sorted(LABELLED_DIR.glob("*.jsonl")) for one in read_labelled(path)]
    await times_ms(lambda one: screens.image("input_image", one), [rgb(224, chance) for _ in range(3)])
    measured: dict[str, list[float]] = {}
    if settings.safety_guard:
        passing = [text for text in texts if not await _is_blocked(rules, text)][:num_texts]
        measured |= await guarded_times_ms(screens, rules, passing)
        settings = settings.model_copy(update={"safety_guard": ""})  # what follows is about the rules
        await screens.close()
        screens = WorkerScreens(rules, producer, VerdictCache(connection, settings), registry, settings, metrics)
    await times_ms(lambda one: screens.text("question", one), texts[:20])
    open_gate = OpenScreens()
    measured |= {
        "picture, first seen": await times_ms(lambda one: screens.image("input_image", one), pictures),
        "picture, seen before": await times_ms(lambda one: screens.image("input_image", one), pictures),
        "candidate, first seen": await times_ms(lambda one: screens.image("candidate", one), painted),
        "candidate, seen before": await times_ms(lambda one: screens.image("candidate", one), painted),
        "text": await times_ms(lambda one: screens.text("question", one), texts),
        "open gate": await times_ms(lambda one: open_gate.text("question", one), texts),
    }
    await screens.close()
    await registry.close()
    await producer.close()
    await connection.close()
    return measured


def _used_by(pid: int) -> tuple[float, float]:
    """Most resident memory, MB, and processor's time, s, of the largest process of this tree; Linux."""
    largest = (0.0, 0.0)
    for one in [pid, *map(int, _read(f"/proc/{pid}/task/{pid}/children").split())]:
        peak = [line.split()[1] for line in _read(f"/proc/{one}/status").splitlines() if line.startswith("VmHWM")]
        times = _read(f"/proc/{one}/stat").rpartition(")")[2].split()[11:13]
        if peak and len(times) == 2:
            largest = max(largest, (int(peak[0]) / 1000, sum(map(int, times)) / os.sysconf("SC_CLK_TCK")))
    return largest


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


async def _is_blocked(rules: Rules, text: str) -> bool:
    [judged] = rules.text.judge([text])
    return len(text) > WINDOW_CHARS or rules.policy.decide("question", judged.findings, judged.language).is_blocked


def _guard_folder(given: str, folder: str) -> str:
    """What was given, or a network of that size in the folder."""
    if not given or Path(given).is_dir():
        return given
    from benchmarks.steered_guard import SIZES, write_steered_guard  # torch is not wanted otherwise

    return str(write_steered_guard(Path(folder) / "guard", SIZES[given]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=60, metavar="N", help="pictures of each kind")
    parser.add_argument("--guard", default="", metavar="FOLDER|0.6b", help="a guard model for the safety worker")
    parser.add_argument("--texts", type=int, default=20, metavar="N", help="that the guard judges one by one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, EmbeddedServer(Path(folder)) as server:
        # No promise is about a machine that is busy with other work, but the numbers are to come all the same
        guard = _guard_folder(options.guard, folder)
        settings = Settings(redis_url=server.url, safety="on", safety_deadline_s=600.0, safety_guard=guard)
        rules = Rules(settings)
        variables = {"VISCPM_REDIS_URL": server.url, "VISCPM_SAFETY": "on", "VISCPM_LOG_LEVEL": "warning"}
        variables |= {"VISCPM_SAFETY_GUARD": guard, "VISCPM_STALL_S": "600", "VISCPM_SAFETY_DEADLINE_S": "600"}
        worker = subprocess.Popen(
            dies_with_parent([sys.executable, "-m", "service.process.cli", "worker", "safety"]),
            env={**os.environ, **variables},
        )
        try:
            measured = asyncio.run(measure(rules, settings, options.pictures, options.texts))
        finally:
            memory_mb, cpu_s = _used_by(worker.pid)
            worker.kill()
            worker.wait()
    report, kept = {}, True
    print(f"{'':24}{'p50 ms':>10}{'p95 ms':>10}{'limit ms':>10}")
    for name, times in measured.items():
        p50_ms, p95_ms = statistics.median(times), statistics.quantiles(times, n=20, method="inclusive")[18]
        limit_ms = LIMITS_MS.get(name.split(", ")[-1])
        kept = kept and (limit_ms is None or p50_ms <= limit_ms)
        report[name] = {"p50_ms": round(p50_ms, 3), "p95_ms": round(p95_ms, 3), "limit_ms": limit_ms}
        print(f"{name:24}{p50_ms:10.2f}{p95_ms:10.2f}{limit_ms or '':>10}")
    print(f"safety worker: {memory_mb:.0f} MB at most, {cpu_s:.0f} s of processor time")
    worker_use = {"worker_mb": round(memory_mb), "worker_cpu_s": round(cpu_s)}
    print(json.dumps({"count": options.pictures, "kept": kept, **worker_use, **report}))
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
