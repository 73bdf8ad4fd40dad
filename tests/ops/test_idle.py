"""Idle connections for the whole of their default time, which is too long for `make test`."""

import asyncio
from pathlib import Path

import pytest

from service.core.settings import Settings
from tests.clients.idle import reuse
from tests.service.api_process import api_process

CONNECTIONS = 40
IDLE_S = 74.9


@pytest.mark.timeout(300)
async def test_idle_connections_are_used_again_just_before_their_time_is_over(tmp_path: Path) -> None:
    assert Settings().keep_alive_s == 75.0
    with api_process(tmp_path) as api:
        tries = await asyncio.gather(*(reuse(api.url, IDLE_S, number) for number in range(CONNECTIONS)))
    print(f"\n{CONNECTIONS} connections used again after {min(tries, key=lambda one: one.idle_s).idle_s:.2f} s or more")
    assert [one.fate for one in tries] == ["answered"] * CONNECTIONS
