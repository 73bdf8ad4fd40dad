"""Answers a second of `viscpm serve` as a user starts it, with the checkpoint in the box, beside an earlier checkout.

    python benchmarks/load.py --baseline CHECKOUT [--rounds 3]

Both run here at the same time and are measured in turns; each with its API, gate, bus and workers. They are sent the
README's picture and question: after the first answer its embeddings and its verdict are known to both, so that the
language model counts.
"""

import argparse
import base64
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.service_overhead import (
    ROOT,
    Row,
    free_port,
    load,
    median,
    print_row,
    process,
    wait_until_it_answers,
)

CLIENTS = (1, 4, 16)
_START_TIMEOUT_S = 180.0  # of both together, on however slow a machine
PICTURE = ROOT / "docs/images/red_apple_on_blue.png"


def main() -> int:
    options = _parser().parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        body = folder / "chat.json"
        picture = base64.b64encode(PICTURE.read_bytes()).decode()
        body.write_text(json.dumps({"image": picture, "question": options.question}))
        roots = {"before": options.baseline, "now": ROOT}
        urls = {name: stack.enter_context(tree(folder / name, root)) for name, root in roots.items()}
        for name, url in urls.items():
            wait_until_it_answers(url + "/chat", body, name, "answer", _START_TIMEOUT_S)
        rows: list[Row] = []
        ratios: dict[str, float] = {}
        for num_clients in options.clients:
            points: dict[str, list[Row]] = {name: [] for name in urls}
            for _ in range(options.rounds):
                for name, url in urls.items():
                    points[name].append(answered(url + "/chat", num_clients, options.seconds, body))
            for name, measured in points.items():
                rows.append({"server": name, "route": "/chat", "clients": num_clients} | median(measured))
                print_row(rows[-1], is_first=len(rows) == 1)
            pairs = zip(points["now"], points["before"], strict=True)
            ratios[f"chat_{num_clients}"] = round(
                statistics.median(now["requests_per_s"] / before["requests_per_s"] for now, before in pairs), 2
            )
    for name, ratio in ratios.items():
        print(f"{name:>20} {ratio:8.2f} x the answers before")
    print(json.dumps({"benchmark": "load", "cores": os.cpu_count(), **ratios, "rows": rows}))
    return 1 if any(row["errors"] for row in rows) else 0


def answered(url: str, num_clients: int, seconds: float, body: Path) -> Row:
    """A point with answers in it: on a slow machine it may take longer than was meant."""
    for duration_s in (seconds, 2 * seconds, 4 * seconds):
        row = load(url, num_clients, duration_s, body)
        if row["requests_per_s"]:
            return row
    raise SystemExit(f"no answer within {4 * seconds} s of {url}")


@contextmanager
def tree(folder: Path, root: Path) -> Iterator[str]:
    """`viscpm serve` of the checkout `root`, chat alone. Yields its URL."""
    port = free_port()
    environment = {"VISCPM_DATA_DIR": str(folder), "VISCPM_MODELS": "chat", "VISCPM_LOG_LEVEL": "warning"}
    cli = "service.process.cli" if (root / "service/process").exists() else "service.cli"  # of earlier checkouts
    with process([sys.executable, "-m", cli, "serve", "--port", str(port)], environment, root):
        yield f"http://127.0.0.1:{port}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--baseline", type=Path, metavar="DIR", required=True, help="an earlier checkout")
    parser.add_argument("--seconds", type=float, default=5.0, help="measured time of each point and round")
    parser.add_argument("--rounds", type=int, default=3, help="the two take turns; medians are shown")
    parser.add_argument("--clients", type=int, nargs="+", default=list(CLIENTS))
    parser.add_argument("--question", default="What is in the picture?")
    return parser


if __name__ == "__main__":
    sys.exit(main())
