"""What the safety gate adds to a request at p50, with the bundled screens, beside an open gate.

    python benchmarks/gate_latency.py [--pictures 60]

Starts a Redis server and one safety worker, and asks the screens as an API process does: each picture is made up, so
that it is seen for the first time; then the same ones again; then labelled prompts. Times include everything between
the gate and the verdict: digest, cache, bus, both screens, policy. Wants two cores that do nothing else. Prints a table
for people, then one JSON line for scripts; exit code 1 where a promise is not kept.

picture     224×224, as Chat's input                  at most 60 ms first seen, 3 ms seen before
candidate   512×512 PNG, as painted                   the same
text        prompts of safety/labelled                at most 2 ms
open gate   the same text with VISCPM_SAFETY=off      the baseline
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
_START_S = 120.0
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


async def measure(rules: Rules, settings: Settings, num_pictures: int) -> dict[str, list[float]]:
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
    await times_ms(lambda one: screens.text("question", one), texts[:20])
    open_gate = OpenScreens()
    measured = {
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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=60, metavar="N", help="pictures of each kind")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, EmbeddedServer(Path(folder)) as server:
        # No promise is about a machine that is busy with other work, but the numbers are to come all the same
        settings = Settings(redis_url=server.url, safety="on", safety_deadline_s=120.0)
        rules = Rules(settings)
        variables = {"VISCPM_REDIS_URL": server.url, "VISCPM_SAFETY": "on", "VISCPM_LOG_LEVEL": "warning"}
        worker = subprocess.Popen(
            dies_with_parent([sys.executable, "-m", "service.process.cli", "worker", "safety"]),
            env={**os.environ, **variables},
        )
        try:
            measured = asyncio.run(measure(rules, settings, options.pictures))
        finally:
            worker.kill()
            worker.wait()
    report, kept = {}, True
    print(f"{'':24}{'p50 ms':>10}{'p95 ms':>10}{'limit ms':>10}")
    for name, times in measured.items():
        p50_ms, p95_ms = statistics.median(times), statistics.quantiles(times, n=20)[18]
        limit_ms = LIMITS_MS.get(name.split(", ")[-1])
        kept = kept and (limit_ms is None or p50_ms <= limit_ms)
        report[name] = {"p50_ms": round(p50_ms, 3), "p95_ms": round(p95_ms, 3), "limit_ms": limit_ms}
        print(f"{name:24}{p50_ms:10.2f}{p95_ms:10.2f}{limit_ms or '':>10}")
    print(json.dumps({"count": options.pictures, "kept": kept, **report}))
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
