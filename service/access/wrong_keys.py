"""Who presents wrong keys waits: a fifth of a second after the first few, twice as long with each, up to five seconds.

Per address, an IPv6 one by its /64, which is one customer's. Right keys from the same address are not held up. All is
kept in this process and bounded: addresses as well as answers that wait.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from ipaddress import IPv6Address, ip_address

from service.core.errors import RateLimited

_FREE = 3  # wrong keys that are answered at once: people mistype
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.2, 5.0
_FORGIVEN_S = 60.0  # after the last wrong key of an address
_MAX_ADDRESSES = 10_000
_MAX_WAITING = 200


class WrongKeys:
    """`sleep` is how an answer waits."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._seen: dict[str, tuple[int, float]] = {}  # by address: how many, and when the last one was
        self.num_waiting = 0

    async def slow_down(self, address: str) -> None:
        """Wait as long as this address has deserved. Raises RateLimited where too many wait already."""
        wait_s = self._wait_s(_block(address))
        if not wait_s:
            return
        if self.num_waiting >= _MAX_WAITING:
            raise RateLimited("too many wrong API keys are presented at once; try again later", retry_after_s=5)
        self.num_waiting += 1
        try:
            await self._sleep(wait_s)
        finally:
            self.num_waiting -= 1

    def _wait_s(self, address: str) -> float:
        now = self._clock()
        count, last = self._seen.pop(address, (0, now))
        count = 1 if now - last > _FORGIVEN_S else count + 1
        while len(self._seen) >= _MAX_ADDRESSES:
            del self._seen[next(iter(self._seen))]
        self._seen[address] = count, now
        return 0.0 if count <= _FREE else min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0 ** min(30, count - _FREE - 1))


def _block(address: str) -> str:
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        return str(parsed.ipv4_mapped or int(parsed) >> 64)
    return address
