"""A guard behind chat completions: what it is asked, and what its answer means."""

import pytest

from safety.text.guards.adapter import UnreadableAnswer
from safety.text.guards.qwen3guard import Qwen3Guard
from safety.text.guards.server import GuardServer
from safety.text.guards.shieldgemma import ShieldGemma
from safety.text.guards.windows import WINDOW_CHARS
from tests.safety.text.guards.stand_in import StandIn


async def test_it_judges_by_the_adapters_talk_and_grammar() -> None:
    async with StandIn() as server:
        guard = GuardServer(server.url, Qwen3Guard(), "my-guard")
        assert not any((await guard.scores("a kite", "user")).values())
        assert (await guard.scores("a zorkmid", "assistant"))["violence"] == 1.0
        path, _, asked = server.asked[1]
        assert path == "/v1/chat/completions" and asked["model"] == "my-guard" and asked["temperature"] == 0
        assert asked["messages"] == Qwen3Guard().messages("a zorkmid", "assistant")
        assert "chat_template_kwargs" not in asked and asked["max_tokens"] <= 64
        await guard.close()


async def test_a_template_gets_what_it_wants_beside_the_talk() -> None:
    async with StandIn() as server:
        guard = GuardServer(server.url, ShieldGemma())
        with pytest.raises(UnreadableAnswer):  # the stand-in speaks another one's grammar
            await guard.scores("a kite", "user")
        [(_, _, asked)] = server.asked
        assert asked["chat_template_kwargs"] == ShieldGemma().template_arguments("user")
        assert asked["model"] == "google/shieldgemma-2b"
        await guard.close()


async def test_every_part_of_a_long_text_is_asked_about() -> None:
    async with StandIn() as server:
        guard = GuardServer(server.url, Qwen3Guard())
        assert (await guard.scores("kite " * WINDOW_CHARS + "zorkmid", "user"))["violence"] == 1.0
        assert len(server.asked) > 4
        await guard.close()


@pytest.mark.parametrize("mood", ["wrong", "mumbling"])
async def test_nonsense_is_no_verdict(mood: str) -> None:
    async with StandIn() as server:
        server.mood = mood
        guard = GuardServer(server.url, Qwen3Guard())
        with pytest.raises(UnreadableAnswer):
            await guard.scores("a kite", "user")
        await guard.close()


@pytest.mark.slow
def test_another_server_model_or_family_is_another_version() -> None:
    guards = [
        GuardServer("http://a", Qwen3Guard()),
        GuardServer("http://b", Qwen3Guard()),
        GuardServer("http://a", Qwen3Guard(), "Qwen/Qwen3Guard-Gen-4B"),
        GuardServer("http://a", ShieldGemma(), "Qwen/Qwen3Guard-Gen-0.6B"),
    ]
    assert len({guard.fingerprint for guard in guards}) == 4
    assert GuardServer("http://a/v1", Qwen3Guard(), key="k").fingerprint == guards[0].fingerprint
