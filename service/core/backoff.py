"""How long to wait before something is tried again: one rule for every place that does."""

import asyncio
import random


class Backoff:
    """Waits that double from `first_s` to at most `max_s`, over the tries since the last success.

    Args:
        jitter: share of each wait that is drawn at random, so that processes which lost the same server do not come
            back in step. 0: none, for what is alone.
        at_once: whether the first try again follows without a wait.
    """

    def __init__(self, first_s: float, max_s: float, jitter: float = 0.5, at_once: bool = False) -> None:
        self.failures = 0  # in a row
        self._first_s = first_s
        self._max_s = max_s
        self._jitter = jitter
        self._at_once = at_once

    def reset(self) -> None:
        """It worked."""
        self.failures = 0

    def next_s(self) -> float:
        """Count a failure; the wait that follows it, in seconds."""
        self.failures += 1
        doublings = self.failures - 1 - self._at_once
        if doublings < 0:
            return 0.0
        # Beyond 2^30 times the first wait the maximum holds anyway, and a float could overflow
        longest_s = min(self._first_s * 2.0 ** min(doublings, 30), self._max_s)
        return longest_s * (1 - self._jitter * random.random())

    async def wait(self) -> None:
        """Count a failure, and wait."""
        await asyncio.sleep(self.next_s())
