"""What the service itself costs: HTTP → bus → worker process → back with an engine that only echoes, beside LitServe.

Both run on this machine in the same run, measured in turns by the same client in a process of its own, with the same
event loop (uvloop) and one worker process each. Ours is the real API app, admission, gate and bus on an embedded
server included.

/echo  a short text, no picture.
/chat  a picture (PNG, 256 × 256) decoded and resized to 224 × 224, and a question; ours also begins a conversation.
"""

import argparse
import base64
import io
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from service.process.embedded_redis import EmbeddedServer
from service.process.parent_death import dies_with_parent

CLIENTS = (1, 16, 64)
ROUTES = ("/echo", "/chat")
QUESTION = "这张图片里有什么？"
ROOT = Path(__file__).parents[1]
_START_TIMEOUT_S = 60.0

Row = dict[str, Any]


def main() -> int:
    options = _parser().parse_args()
    rows: list[Row] = []
    ratios: dict[str, float] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        urls = {
            "viscpm": stack.enter_context(our_service(folder / "ours", ROOT, options.max_jobs)),
            "litserve": stack.enter_context(server("litserve_echo", {}, ROOT)),
        }
        if options.baseline is not None:
            urls["before"] = stack.enter_context(our_service(folder / "before", options.baseline, options.max_jobs))
        bodies = {route: folder / f"{route[1:]}.json" for route in options.routes}
        for route, file in bodies.items():
            file.write_text(json.dumps(body_of(route)))
        for name, url in urls.items():
            for route in options.routes:
                wait_until_it_answers(url + route, bodies[route], name)
        for route in options.routes:
            for num_clients in options.clients:
                points: dict[str, list[Row]] = {name: [] for name in urls}
                for _ in range(options.rounds):
                    for name, url in urls.items():
                        points[name].append(load(url + route, num_clients, options.seconds, bodies[route]))
                for name, measured in points.items():
                    rows.append({"server": name, "route": route, "clients": num_clients} | median(measured))
                    print_row(rows[-1], is_first=len(rows) == 1)
                for name in sorted(points.keys() - {"litserve"}, reverse=True):
                    prefix = "before_" if name == "before" else ""
                    ratios |= compare(f"{prefix}{route[1:]}_{num_clients}", points[name], points["litserve"])
    for name, ratio in ratios.items():
        print(f"{name:>35} {ratio:8.2f}")
    print(json.dumps({"benchmark": "service_overhead", "cores": os.cpu_count(), **ratios, "rows": rows}))
    return 1 if any(row["errors"] for row in rows) else 0


@contextmanager
def our_service(folder: Path, root: Path, max_jobs: int) -> Iterator[str]:
    """Embedded server, one worker with the echo engine, the API, all of the checkout `root`. Yields its URL."""
    with EmbeddedServer(folder) as redis:
        environment = {
            "VISCPM_REDIS_URL": redis.url,
            "VISCPM_CHAT_ENGINE": "benchmarks.echo_engine:create_engine",
            "VISCPM_CHAT_MAX_JOBS": str(max_jobs),
            "VISCPM_MODELS": "chat",
            "VISCPM_SAFETY": "off",  # LitServe has no screens; gate_latency.py measures ours
            "VISCPM_LOG_LEVEL": "warning",
        }
        cli = "service.process.cli" if (root / "service/process").exists() else "service.cli"  # of earlier checkouts
        command = [sys.executable, "-m", cli, "worker", "chat", "--worker-id", "echo"]
        with process(command, environment, root), server("echo_api", environment, root) as url:
            yield url


@contextmanager
def server(module: str, environment: dict[str, str], root: Path) -> Iterator[str]:
    port = free_port()
    with process([sys.executable, "-m", f"benchmarks.{module}", str(port)], environment, root):
        yield f"http://127.0.0.1:{port}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def process(command: list[str], environment: dict[str, str], root: Path) -> Iterator["subprocess.Popen[bytes]"]:
    running = subprocess.Popen(
        dies_with_parent(command),
        env=os.environ | environment | {"PYTHONPATH": str(root)},
        cwd=root,
        stdout=sys.stderr,
        start_new_session=True,
    )
    try:
        yield running
    finally:
        os.killpg(running.pid, signal.SIGTERM)  # LitServe's own children too
        try:
            running.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(running.pid, signal.SIGKILL)
            running.wait()


def body_of(route: str) -> dict[str, str]:
    if route == "/echo":
        return {"text": QUESTION}
    random.seed(0)
    picture = Image.new("RGB", (256, 256))
    picture.putdata([(x, y, (x * y + random.randrange(8)) % 256) for y in range(256) for x in range(256)])
    file = io.BytesIO()
    picture.save(file, "PNG")
    return {"image": base64.b64encode(file.getvalue()).decode(), "question": QUESTION}


def wait_until_it_answers(
    url: str, body: Path, name: str, expected: str = QUESTION, timeout_s: float = _START_TIMEOUT_S
) -> None:
    deadline_s = time.monotonic() + timeout_s
    request = urllib.request.Request(url, body.read_bytes(), {"Content-Type": "application/json"})
    while True:
        try:
            with urllib.request.urlopen(request, timeout=timeout_s) as response:
                assert expected in json.dumps(json.load(response), ensure_ascii=False)
                return
        except OSError as error:
            if time.monotonic() > deadline_s:
                raise SystemExit(f"{name} does not answer {url}: {error}") from None
            time.sleep(0.1)


def load(url: str, num_clients: int, duration_s: float, body: Path) -> Row:
    command = [sys.executable, "-m", "benchmarks.http_load", url, str(num_clients), str(duration_s), str(body)]
    result: Row = json.loads(subprocess.check_output(command, cwd=ROOT))
    if result["errors"]:
        print(result["first_error"], file=sys.stderr)
    return result


def median(measured: list[Row]) -> Row:
    """Of each number over the rounds; errors are added up."""
    names = ("requests_per_s", "p50_ms", "p99_ms", "client_cpu")
    row: Row = {name: round(statistics.median(one[name] for one in measured), 3) for name in names}
    return row | {"errors": sum(one["errors"] for one in measured), "rounds": len(measured)}


def print_row(row: Row, is_first: bool) -> None:
    columns = ("route", "clients", "server", "requests_per_s", "p50_ms", "p99_ms", "errors", "client_cpu")
    if is_first:
        print("".join(f"{name:>15}" for name in columns))
    print("".join(f"{row[name]!s:>15}" for name in columns), flush=True)


def compare(point: str, ours: list[Row], theirs: list[Row]) -> dict[str, float]:
    """Ratios of ours to LitServe's, median over the rounds, so that other load on the machine matters less."""

    def ratio(name: str) -> float:
        return round(statistics.median(one[name] / other[name] for one, other in zip(ours, theirs, strict=True)), 2)

    return {f"{point}_throughput_ratio": ratio("requests_per_s"), f"{point}_p50_ratio": ratio("p50_ms")}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0, help="measured time of each point and round")
    parser.add_argument("--rounds", type=int, default=5, help="the servers take turns; medians are shown")
    parser.add_argument("--clients", type=int, nargs="+", default=list(CLIENTS))
    parser.add_argument("--routes", nargs="+", choices=ROUTES, default=list(ROUTES))
    parser.add_argument("--baseline", type=Path, metavar="DIR", help="an earlier checkout, measured in the same run")
    parser.add_argument("--max-jobs", type=int, default=16, help="jobs that our worker has in progress at once")
    return parser


if __name__ == "__main__":
    sys.exit(main())
