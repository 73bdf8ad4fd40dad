"""Many event streams at once through one API process: how late an event comes, and what the process takes.

    python benchmarks/streams.py [--streams 500] [--seconds 10]

Each is an answer of POST /chat in five words a second (`ticking_engine.py`), the whole way from the engine over worker,
Redis and API to a client in a process of its own. Prints a table for people, then one JSON line for scripts; exit code
1 where a stream failed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.service_overhead import ROOT, Row, free_port, process
from benchmarks.ticking_engine import INTERVAL_S
from service.process.embedded_redis import EmbeddedServer

_START_TIMEOUT_S = 120.0
_RAMP_S = 10.0


def main() -> int:
    options = _parser().parse_args()
    num_words = round(options.seconds / INTERVAL_S)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for num_streams in options.streams:
            place = Path(folder, str(num_streams))
            place.mkdir()
            with serving(place, num_streams) as (url, pids):
                before_s = {name: cpu_s(pid) for name, pid in pids.items()}
                began_s = time.monotonic()
                row = load(f"{url}/chat", num_streams, num_words)
                elapsed_s = time.monotonic() - began_s
                used = {name: round((cpu_s(pid) - before_s[name]) / elapsed_s, 2) for name, pid in pids.items()}
                row |= {"api_cpu": used["api"], "worker_cpu": used["worker"], "rss_mb": peak_resident_mb(pids["api"])}
            rows.append(row)
            print_row(row, is_first=len(rows) == 1)
    print(json.dumps({"benchmark": "streams", "cores": os.cpu_count(), "rows": rows}))
    return 1 if any(row["errors"] for row in rows) else 0


@contextmanager
def serving(folder: Path, num_streams: int) -> Iterator[tuple[str, dict[str, int]]]:
    """Embedded server, one worker, one API process. Yields its URL, and the processes' ids by name."""
    with EmbeddedServer(folder) as redis:
        environment = {
            "VISCPM_REDIS_URL": redis.url,
            "VISCPM_CHAT_ENGINE": "benchmarks.ticking_engine:create_engine",
            "VISCPM_CHAT_MAX_JOBS": str(num_streams),
            "VISCPM_QUEUE_SIZE": str(2 * num_streams),
            "VISCPM_MODELS": "chat",
            "VISCPM_SAFETY": "off",
            "VISCPM_LOG_LEVEL": "warning",
        }
        cli, port = [sys.executable, "-m", "service.process.cli"], free_port()
        with (
            process([*cli, "worker", "chat", "--worker-id", "ticking"], environment, ROOT) as worker,
            process([*cli, "api", "--port", str(port)], environment, ROOT) as api,
        ):
            url = f"http://127.0.0.1:{port}"
            wait_until_ready(url)
            yield url, {"api": api.pid, "worker": worker.pid}


def wait_until_ready(url: str) -> None:
    deadline_s = time.monotonic() + _START_TIMEOUT_S
    while True:
        try:
            with urllib.request.urlopen(f"{url}/health/ready", timeout=5):
                return
        except OSError as error:
            if time.monotonic() > deadline_s:
                raise SystemExit(f"{url} is not ready: {error}") from None
            time.sleep(0.1)


def load(url: str, num_streams: int, num_words: int) -> Row:
    command = [sys.executable, "-m", "benchmarks.stream_load", url, str(num_streams), str(num_words), str(_RAMP_S)]
    row: Row = json.loads(subprocess.check_output(command, cwd=ROOT))
    if row["errors"]:
        print(row["first_error"], file=sys.stderr)
    return row


def cpu_s(pid: int) -> float:
    """Processor time that it has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_resident_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return round(int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6, 1)


def print_row(row: Row, is_first: bool) -> None:
    columns = (
        "streams",
        "events",
        "p50_ms",
        "p99_ms",
        "max_ms",
        "errors",
        "rss_mb",
        "api_cpu",
        "worker_cpu",
        "client_cpu",
    )
    if is_first:
        print("".join(f"{name:>12}" for name in columns))
    print("".join(f"{row[name]!s:>12}" for name in columns), flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, nargs="+", default=[100, 250, 500])
    parser.add_argument("--seconds", type=float, default=8.0, help="of each answer")
    return parser


if __name__ == "__main__":
    sys.exit(main())
