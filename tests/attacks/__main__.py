"""`python -m tests.attacks --url http://127.0.0.1:8000`: the corpus against a running service.

The service must be ready to chat. For the whole corpus let it fetch from an origin that this command runs, here with
both on one machine:

    VISCPM_FETCH_IMAGES=true VISCPM_FETCH_ALLOWED_NETWORKS=127.66.0.1/32 VISCPM_FETCH_PORTS=80,443,8099,8098 \
        VISCPM_FETCH_TIMEOUT_S=2 VISCPM_BODY_TIMEOUT_S=5 viscpm serve
    python -m tests.attacks --url http://127.0.0.1:8000 --origin 127.66.0.1:8099 --canary 8098
"""

import argparse
import sys
from collections import Counter
from contextlib import ExitStack

from tests.attacks import canary, origin
from tests.attacks.case import Surroundings
from tests.attacks.runner import CASES, run


def main() -> int:
    options = _parser().parse_args()
    with ExitStack() as stack:
        origin_url, listener = "", None
        if options.origin:
            host, _, port = options.origin.rpartition(":")
            origin_url = stack.enter_context(origin.serving(host, int(port))).url
        if options.canary:
            listener = stack.enter_context(canary.listening(options.canary))
        around = Surroundings(origin_url, options.canary or 80)
        cases = [case for case in CASES if options.only in case.id]
        passed: Counter[str] = Counter()
        failed = []
        for _ in range(options.rounds):
            for outcome in run(cases, options.url, around, is_fetching=not options.no_fetching):
                if outcome.problem:
                    failed.append(outcome)
                    print(f"FAILED {outcome}", flush=True)
                else:
                    passed[outcome.case.group] += 1
        for group, count in passed.items():
            print(f"{group:10} {count:5} as documented")
        if listener is not None:
            print(f"connections that must never come: {len(listener.connections)}")
        return 1 if failed or (listener is not None and listener.connections) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.attacks", description=__doc__.splitlines()[0])
    parser.add_argument("--url", required=True, help="of the service")
    parser.add_argument("--origin", default="", metavar="HOST:PORT", help="run the hostile origin there")
    parser.add_argument("--canary", type=int, default=0, metavar="PORT", help="count connections to this machine there")
    parser.add_argument("--no-fetching", action="store_true", help="the service does not fetch URLs at all")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", default="", help="part of `group: name`")
    return parser


if __name__ == "__main__":
    sys.exit(main())
