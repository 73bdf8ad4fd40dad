"""How many of its threads a model is worth: a small one answers faster in one than in two that wait for each other."""

import logging
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter

import torch

logger = logging.getLogger(__name__)

_ROUNDS = 5


def choose_threads(work: Callable[[], object]) -> int:
    """Sets torch's threads, for the calling thread, to what they are or to 1, whichever does the work sooner.

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
    best = min(medians_s, key=lambda count: medians_s[count])
    torch.set_num_threads(best)
    told_ms = sorted(median_s * 1e3 for median_s in medians_s.values())
    logger.info("%d of %d threads: a step takes %.1f ms, not %.1f", best, most, *told_ms)
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
