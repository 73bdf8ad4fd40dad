"""How many of its threads a model is worth: a small one answers faster in one than in two that wait for each other.

What else answers a request, the API and the queue's server, runs on the same processors: more threads are taken only
where they are worth it.
"""

import logging
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter

import torch

logger = logging.getLogger(__name__)

_ROUNDS = 5
_WORTH = 1.25  # times as fast in more threads as in one


def choose_threads(work: Callable[[], object]) -> int:
    """Sets torch's threads, for the calling thread, to what they are if that does the work well sooner, else to 1.

    Args:
        work: a step as it is usually taken; it is run some ten times, in turns.
    """
    most = torch.get_num_threads()
    if most == 1:
        return 1
    taken_s: dict[int, list[float]] = {1: [], most: []}
    for _ in range(_ROUNDS + 1):
        for count, times_s in taken_s.items():
            torch.set_num_threads(count)
            started_s = perf_counter()
            work()
            times_s.append(perf_counter() - started_s)
    medians_s = {count: statistics.median(times_s[1:]) for count, times_s in taken_s.items()}  # the first warms up
    best = most if medians_s[1] >= _WORTH * medians_s[most] else 1
    torch.set_num_threads(best)
    of_one_ms, of_most_ms = medians_s[1] * 1e3, medians_s[most] * 1e3
    logger.info("a step takes %.1f ms in %d threads and %.1f in one: %d", of_most_ms, most, of_one_ms, best)
    return best


@contextmanager
def in_threads(count: int) -> Iterator[None]:
    """So many of torch's threads for what the calling thread does within."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
