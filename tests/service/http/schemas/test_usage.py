"""A day of a key, as it is told."""

import msgspec

from service.access.usage import Usage
from service.http.schemas.usage import UsageDay, UsageResponse


def test_a_day_tells_every_count() -> None:
    day = UsageDay.of("0123456789ab", "shop", "2026-11-30", Usage(requests=2, pictures=1))
    told = msgspec.to_builtins(UsageResponse(data=[day]))
    assert told["object"] == "usage"
    [row] = told["data"]
    assert (row["name"], row["requests"], row["pictures"], row["steps"]) == ("shop", 2, 1, 0)
    assert set(Usage.__struct_fields__) < set(row), "every count has its field"
