"""A server of moderations: flags, scores, and categories under other names."""

from typing import Any

import pytest

from safety.text.guards.adapter import UnreadableAnswer
from safety.text.guards.moderation import ModerationServer, _scores
from tests.safety.text.guards.stand_in import StandIn


async def test_what_it_flags_counts_and_what_it_does_not_flag_does_not() -> None:
    async with StandIn() as server:
        screen = ModerationServer(server.url, "omni-moderation-latest")
        assert await screen.scores("a kite", "user") == {"violence": 0.4, "hate": 0.5}
        assert await screen.scores("a zorkmid", "user") == {"violence": 1.0, "hate": 0.5}
        assert server.asked[0][0] == "/v1/moderations"
        assert server.asked[0][2] == {"input": "a kite", "model": "omni-moderation-latest"}
        await screen.close()


def result(flagged: object = False, categories: object = None, scores: object = None) -> dict[str, Any]:
    return {"flagged": flagged, "categories": categories or {}, "category_scores": scores or {}}


def test_other_names_are_known_or_unsafe() -> None:
    found = _scores(result(True, {"pii": True, "selfharm": False, "bad-manners": False}, {"selfharm": 0.2}))
    assert found == {"privacy": 1.0, "self-harm": 0.2, "unsafe": 0.0}
    assert _scores(result(True, {"bad-manners": True}))["unsafe"] == 1.0
    assert _scores(result(True, {"hate": False}, {"hate": 0.3})) == {"hate": 0.3, "unsafe": 1.0}


@pytest.mark.parametrize("bad", [result(), result("yes", {"hate": True}), result(True, {"hate": 1}), {"flagged": True}])
async def test_another_shape_is_no_verdict(bad: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError, KeyError)):
        _scores(bad)


async def test_a_result_of_another_shape_is_unreadable() -> None:
    async with StandIn() as server:
        server.mood = "wrong"
        screen = ModerationServer(server.url)
        with pytest.raises(UnreadableAnswer):
            await screen.scores("a kite", "user")
        await screen.close()


@pytest.mark.slow
def test_another_server_or_model_is_another_version() -> None:
    screens = [ModerationServer("http://a"), ModerationServer("http://b"), ModerationServer("http://a", "m")]
    assert len({screen.fingerprint for screen in screens}) == 3
