"""How long /health/live takes while a long paint runs and a chat worker hangs, beside the same service at rest.

    python benchmarks/health_latency.py                  starts a service of its own and disturbs it
    python benchmarks/health_latency.py --url URL        measures a running service as it is, one JSON line

Prints a table for people, then one JSON line for scripts.
"""

import argparse
import contextlib
import http.client
import json
import os
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

READY = "ready on "
# No limit keeps the long paint out
SERVICE = {"VISCPM_CHAT_WORKERS": "2", "VISCPM_SAFETY": "off", "VISCPM_MAX_PIXEL_STEPS": str(2**40)}


def measure(url: str, count: int, interval_s: float) -> dict[str, float]:
    """p50, p99 and maximum in milliseconds of `count` requests on one connection."""
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=10)
    times_ms = []
    for _ in range(count):
        started_s = time.perf_counter()
        connection.request("GET", "/health/live")
        response = connection.getresponse()
        response.read()
        times_ms.append((time.perf_counter() - started_s) * 1000)
        if response.status != 200:
            raise SystemExit(f"/health/live answered {response.status}")
        time.sleep(interval_s)
    connection.close()
    p99_ms = statistics.quantiles(times_ms, n=100)[98]
    return {"p50_ms": statistics.median(times_ms), "p99_ms": p99_ms, "max_ms": max(times_ms)}


@contextlib.contextmanager
def serving(data_dir: Path) -> Iterator[str]:
    """URL of a service with two chat workers, started for the block."""
    log_path = data_dir / "serve.log"
    command = [sys.executable, "-m", "service.process.cli", "serve", "--port", "0", "--data-dir", str(data_dir)]
    with open(log_path, "wb") as log:
        process = subprocess.Popen(command, stderr=log, env={**_environment(), **SERVICE})
    try:
        while READY not in log_path.read_text(errors="replace"):
            if process.poll() is not None:
                raise SystemExit(log_path.read_text(errors="replace"))
            time.sleep(0.1)
        yield log_path.read_text(errors="replace").split(READY)[1].split(": ")[0]
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("VISCPM_")}


@contextlib.contextmanager
def disturbed(url: str) -> Iterator[None]:
    """One chat worker stopped and one paint of a thousand steps, for the block."""
    workers = _get(f"{url}/health/ready")["models"]["chat"]["workers"]
    hung_pid = _pid_of(workers[0]["id"])
    body = json.dumps({"prompt": "a slow river", "num_inference_steps": 1000}).encode()
    paint = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc)
    os.kill(hung_pid, signal.SIGSTOP)
    try:
        paint.request("POST", "/paint", body, {"Content-Type": "application/json"})
        time.sleep(1)
        yield
        if select.select([paint.sock], [], [], 0)[0]:
            raise SystemExit("the paint was over before the measurement: nothing was disturbed")
    finally:
        paint.close()  # the client leaves, and the job ends within a step
        os.kill(hung_pid, signal.SIGCONT)


def _pid_of(worker_id: str) -> int:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if worker_id.encode() in path.read_bytes().split(b"\0"):
                return int(path.parent.name)
    raise SystemExit(f"no process of worker {worker_id}")


def _get(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(url, timeout=10) as response:
        answer: dict[str, Any] = json.load(response)
        return answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--interval-s", type=float, default=0.01)
    options = parser.parse_args()
    if options.url:
        print(json.dumps(measure(options.url, options.count, options.interval_s)))
        return
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as url:
        result = {"rest": measure(url, options.count, options.interval_s)}
        with disturbed(url):
            result["disturbed"] = measure(url, options.count, options.interval_s)
    print(f"/health/live, {options.count} requests    p50 ms    p99 ms    max ms")
    for name, row in result.items():
        print(f"{name:32}{row['p50_ms']:10.2f}{row['p99_ms']:10.2f}{row['max_ms']:10.2f}")
    print(json.dumps({"benchmark": "health_latency", **result}))


if __name__ == "__main__":
    main()
