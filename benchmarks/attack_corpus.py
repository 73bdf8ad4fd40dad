"""The corpus of attacks, 20 times over, against a service of its own: answers, times and what memory stays.

    python benchmarks/attack_corpus.py               20 rounds, 4 requests at a time
    python -m tests.attacks --url URL                the same corpus against any running service

Prints a table for people, then one JSON line for scripts. Exits with 1 where an answer is not the documented one, a
connection was opened that must not be, or more than 16 MiB stayed.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # the corpus lies with the tests, which are not installed

from tests.attacks.runner import CASES, Outcome, run  # noqa: E402
from tests.attacks.target import attacked  # noqa: E402

MAX_GROWTH_MIB = 16
_MIB = 2**20


def main() -> int:
    options = _parser().parse_args()
    outcomes: dict[str, list[Outcome]] = defaultdict(list)
    resident_mib: list[float] = []
    with tempfile.TemporaryDirectory() as folder, attacked(Path(folder)) as target:
        resident_mib.append(target.resident_bytes() / _MIB)
        for number in range(1, options.rounds + 1):
            began_s = time.monotonic()
            for outcome in run(CASES, target.url, target.around, clients=options.clients):
                outcomes[outcome.case.group].append(outcome)
                if outcome.problem:
                    print(f"FAILED {outcome}", flush=True)
            resident_mib.append(target.resident_bytes() / _MIB)
            elapsed_s = time.monotonic() - began_s
            print(f"round {number:2}: {elapsed_s:5.1f} s, resident {resident_mib[-1]:6.1f} MiB", flush=True)
        canary = len(target.canary.connections)
    wrong = sum(bool(one.problem) for group in outcomes.values() for one in group)
    growth_mib = resident_mib[-1] - resident_mib[0]
    _print_table(outcomes)
    print(f"resident: {resident_mib[0]:.1f} MiB at start, {resident_mib[-1]:.1f} MiB after, {growth_mib:+.1f} MiB")
    print(f"connections to refused addresses: {canary}")
    summary = {"cases": len(CASES), "rounds": options.rounds, "wrong": wrong, "refused_dialled": canary}
    memory = {"start_mib": resident_mib[0], "growth_mib": growth_mib}
    print(json.dumps({"benchmark": "attack_corpus", "cores": os.cpu_count(), **summary, **memory}))
    return 1 if wrong or canary or growth_mib > MAX_GROWTH_MIB else 0


def _print_table(outcomes: dict[str, list[Outcome]]) -> None:
    print(f"{'group':10} {'cases':>6} {'sent':>6} {'4xx':>6} {'200':>6} {'wrong':>6} {'p50 ms':>8} {'max ms':>8}")
    for group, rows in outcomes.items():
        times_ms = [row.elapsed_s * 1000 for row in rows]
        counts = [
            len({row.case.name for row in rows}),
            len(rows),
            sum(400 <= row.status < 500 for row in rows),
            sum(row.status == 200 for row in rows),
            sum(bool(row.problem) for row in rows),
        ]
        cells = " ".join(f"{count:6}" for count in counts)
        print(f"{group:10} {cells} {statistics.median(times_ms):8.1f} {max(times_ms):8.0f}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--clients", type=int, default=4, help="requests at a time")
    return parser


if __name__ == "__main__":
    sys.exit(main())
