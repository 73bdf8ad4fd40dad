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
            wait_until_it_answers(url + "/chat", body, name, "answer")
        rows: list[Row] = []
        ratios: dict[str, float] = {}
        for num_clients in options.clients:
            points: dict[str, list[Row]] = {name: [] for name in urls}
            for _ in range(options.rounds):
                for name, url in urls.items():
                    points[name].append(load(url + "/chat", num_clients, options.seconds, body))
            for name, measured in points.items():
                rows.append({"server": name, "route": "/chat", "clients": num_clients} | median(measured))
                print_row(rows[-1], is_first=len(rows) == 1)
            if not all(one["requests_per_s"] for one in [*points["now"], *points["before"]]):
                raise SystemExit(f"no answer within {options.seconds} s: give it more --seconds")
            pairs = zip(points["now"], points["before"], strict=True)
            ratios[f"chat_{num_clients}"] = round(
                statistics.median(now["requests_per_s"] / before["requests_per_s"] for now, before in pairs), 2
            )
    for name, ratio in ratios.items():
        print(f"{name:>20} {ratio:8.2f} x the answers before")
    print(json.dumps({"benchmark": "load", "cores": os.cpu_count(), **ratios, "rows": rows}))
    return 1 if any(row["errors"] for row in rows) else 0


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
