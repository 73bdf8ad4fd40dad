"""Clocks that agree, and one that does not."""

import pytest

from service.core.settings import Settings
from service.doctor.clocks import check_clocks
from service.doctor.ports import check_ports
from tests.service.doctor.crooked_clocks import ServedEarly


def test_clocks_that_agree() -> None:
    [told] = check_clocks(0.1, -1.0)
    assert told.level == "ok" and "(TIME) +0.1 s, the API (Date) -1.0 s" in told.found
    assert check_clocks(None, None)[0].level == "ok"


@pytest.mark.parametrize(("ahead_s", "words"), [(60.0, "60 s ahead of"), (-7.0, "7 s behind")])
def test_a_server_that_is_off(ahead_s: float, words: str) -> None:
    [told] = check_clocks(ahead_s, 0.0)
    assert told.level == "problem" and words in told.found and "NTP" in told.fix


def test_an_api_whose_date_is_off() -> None:
    with ServedEarly() as port:
        ports = check_ports(Settings(port=port))
    assert ports.findings[0].level == "ok", "it is this service's"
    [told] = check_clocks(None, ports.api_ahead_s)
    assert told.level == "problem" and "the clock of the API (Date) is 3600 s ahead of" in told.found
