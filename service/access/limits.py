"""What a key has used of its minute, as the server counted it, and how answers tell it.

A minute begins with the first request after the last one has ended. Requests are counted when they are taken, tokens
when an answer is there: the request that goes over the tokens is answered, and the next one waits for the next minute.
"""

import math
from typing import NamedTuple

from service.access.api_keys import KeyLimits
from service.core.errors import RateLimited


class KeyUse(NamedTuple):
    """Of one key, with the request that asked for it."""

    limits: KeyLimits
    requests: int
    tokens: int
    jobs: int
    left_s: float  # of the minute

    def headers(self) -> list[tuple[bytes, bytes]]:
        """As OpenAI's; of the limits that there are."""
        told = []
        for name, limit, used in (
            ("requests", self.limits.requests_per_min, self.requests),
            ("tokens", self.limits.tokens_per_min, self.tokens),
        ):
            if limit:
                told += [
                    (f"x-ratelimit-limit-{name}", str(limit)),
                    (f"x-ratelimit-remaining-{name}", str(max(0, limit - used))),
                    (f"x-ratelimit-reset-{name}", f"{self.left_s:.3f}s"),
                ]
        return [(name.encode(), value.encode()) for name, value in told]

    def refusal(self, reason: str) -> RateLimited:
        """Args: reason: requests, tokens or jobs."""
        if reason == "jobs":
            return RateLimited(
                f"this key has {self.jobs} jobs queued or running, and may have {self.limits.max_jobs}; ask again when "
                "one has ended"
            )
        limit, used = {
            "requests": (self.limits.requests_per_min, self.requests),
            "tokens": (self.limits.tokens_per_min, self.tokens),
        }[reason]
        return RateLimited(
            f"this key has used {used} {reason} in this minute, and may use {limit}; the next one begins in "
            f"{self.left_s:.1f} s",
            retry_after_s=max(1, math.ceil(self.left_s)),
        )
