"""Calls of a screen's server: addresses, what passes and what does not."""

import asyncio

import pytest

from safety.text.guards.adapter import UnreadableAnswer
from safety.text.guards.calls import ServerCalls, endpoint
from safety.verdict import ScreenOffline
from tests.safety.text.guards.stand_in import StandIn

ASKED = {"input": "a kite"}


@pytest.mark.parametrize("base", ["http://h:1", "http://h:1/", "http://h:1/v1", "http://h:1/v1/moderations"])
def test_an_address_may_be_given_in_part(base: str) -> None:
    assert endpoint(base, "/v1/moderations") == "http://h:1/v1/moderations"


def test_a_server_below_a_path_keeps_it() -> None:
    assert endpoint("https://h/guard", "/v1/moderations") == "https://h/guard/v1/moderations"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mood", "error"),
    [
        ("silent", ScreenOffline),
        ("broken", ScreenOffline),
        ("failing", ScreenOffline),
        ("refusing", UnreadableAnswer),
        ("no_json", UnreadableAnswer),
        ("endless", UnreadableAnswer),
    ],
)
async def test_what_is_no_answer_is_told_apart(mood: str, error: type[Exception]) -> None:
    async with StandIn() as server:
        server.mood = mood
        calls = ServerCalls(server.url, "/v1/moderations", "", 0.5 if mood == "silent" else 10.0)
        began_s = asyncio.get_running_loop().time()
        with pytest.raises(error, match="127.0.0.1"):
            await calls.post(ASKED)
        assert asyncio.get_running_loop().time() - began_s < 5
        server.mood = ""  # and it may come back
        assert (await calls.post(ASKED))["results"][0]["flagged"] is False
        await calls.close()


async def test_a_server_that_is_not_there_is_away() -> None:
    server = StandIn()
    async with server:
        calls = ServerCalls(server.url, "/v1/moderations", "", 10.0)
    with pytest.raises(ScreenOffline, match="cannot be asked"):
        await calls.post(ASKED)
    await calls.close()


async def test_a_slow_answer_within_its_time_counts_and_the_key_goes_along() -> None:
    async with StandIn() as server:
        server.mood, server.delay_s = "slow", 0.2
        calls = ServerCalls(server.url, "/v1/moderations", "secret", 10.0)
        assert (await calls.post(ASKED))["results"]
        assert server.asked[0][1]["authorization"] == "Bearer secret"
        await calls.close()
