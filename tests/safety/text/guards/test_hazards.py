"""The hazards' codes: all fourteen, in categories that the policy knows."""

from safety.categories import CATEGORIES
from safety.text.guards.hazards import HAZARDS


def test_every_code_means_something() -> None:
    assert list(HAZARDS) == [f"S{number}" for number in range(1, 15)]
    assert all(HAZARDS.values()) and {one for named in HAZARDS.values() for one in named} <= CATEGORIES
