"""What API keys have used."""

from typing import Literal, Self

import msgspec

from service.access.usage import Usage
from service.jobs.answers import Count


class UsageDay(msgspec.Struct, kw_only=True):
    """One key on one day (UTC)."""

    day: str
    key_id: str
    name: str
    requests: Count
    prompt_tokens: Count
    completion_tokens: Count
    pictures: Count
    steps: Count

    @classmethod
    def of(cls, key_id: str, name: str, day: str, usage: Usage) -> Self:
        return cls(day=day, key_id=key_id, name=name, **msgspec.structs.asdict(usage))


class UsageResponse(msgspec.Struct, kw_only=True):
    data: list[UsageDay]
    object: Literal["usage"] = "usage"
