"""Screens of text that servers run: asked by language, kept by version, and never taken for granted."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from safety.text.guards.adapter import UnreadableAnswer
from safety.text.guards.moderation import ModerationServer
from safety.text.guards.qwen3guard import Qwen3Guard
from safety.text.guards.server import GuardServer
from safety.verdict import Finding, ScreenOffline
from service.core.metrics import Metrics
from service.core.settings import Settings
from service.jobs.guards.servers import GuardServers, ServerScreen, configured_servers
from service.queue.verdict_cache import VerdictCache
from tests.safety.text.guards.stand_in import StandIn
from tests.service.tree import api_side


@pytest.fixture
async def server() -> AsyncIterator[StandIn]:
    async with StandIn() as running:
        yield running


@pytest.fixture
async def cache(settings: Settings) -> AsyncIterator[VerdictCache]:
    async with api_side(settings) as api:
        yield VerdictCache(api.connection, settings)


def asking(cache: VerdictCache, *screens: ServerScreen, policy: str = "policy") -> GuardServers:
    return GuardServers(screens, policy, cache, Metrics("api"))


async def test_all_are_asked_at_once_and_say_their_versions(server: StandIn, cache: VerdictCache) -> None:
    guard, moderation = GuardServer(server.url, Qwen3Guard()), ModerationServer(server.url)
    servers = asking(cache, guard, moderation)
    first, second = await servers.findings("a zorkmid", "key", "user", "en")
    assert isinstance(first, Finding) and (first.screen, first.version) == ("qwen3guard", guard.fingerprint)
    assert (second.screen, second.version) == ("moderation", moderation.fingerprint)
    assert first.scores["violence"] == 1.0 == second.scores["violence"] and len(server.asked) == 2
    assert await servers.findings("a zorkmid", "key", "user", "en") == [first, second] and len(server.asked) == 2
    await servers.close()


async def test_a_language_that_none_declares_is_asked_of_none(server: StandIn, cache: VerdictCache) -> None:
    class EnglishGuard(Qwen3Guard):
        languages = frozenset(("en",))

    servers = asking(cache, GuardServer(server.url, EnglishGuard()))
    assert await servers.findings("\u98ce\u7b5d", "key", "user", "zh") == [] and server.asked == []
    assert len(await servers.findings("a kite", "key", "user", "en")) == 1
    await servers.close()


@pytest.mark.slow
async def test_another_map_question_model_or_policy_voids_what_is_kept(server: StandIn, cache: VerdictCache) -> None:
    class OtherMap(Qwen3Guard):
        labels = {**Qwen3Guard.labels, "Violent": ("hate",)}

    class OtherQuestion(Qwen3Guard):
        def messages(self, text: str, role: str) -> list[dict[str, str]]:
            return [{"role": "system", "content": "Judge."}, {"role": "user", "content": text}]

    def guard(adapter: Qwen3Guard, model: str = "") -> GuardServer:
        return GuardServer(server.url, adapter, model)

    asked = [
        asking(cache, guard(Qwen3Guard())),
        asking(cache, guard(OtherMap())),
        asking(cache, guard(OtherQuestion())),
        asking(cache, guard(Qwen3Guard(), "another")),
        asking(cache, guard(Qwen3Guard()), policy="another"),
    ]
    for number, servers in enumerate(asked, 1):
        [finding] = await servers.findings("a zorkmid", "key", "user", "en")
        assert len(server.asked) == number
        assert finding.scores["hate" if number == 2 else "violence"] == 1.0
    for servers in asked:  # and each is kept under its own
        await servers.findings("a zorkmid", "key", "user", "en")
        await servers.close()
    assert len(server.asked) == len(asked)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mood", "error"), [("silent", ScreenOffline), ("failing", ScreenOffline), ("mumbling", UnreadableAnswer)]
)
async def test_no_verdict_is_raised_in_time_and_not_kept(
    server: StandIn, cache: VerdictCache, mood: str, error: type[Exception]
) -> None:
    server.mood = mood
    servers = asking(
        cache, GuardServer(server.url, Qwen3Guard(), timeout_s=0.5), ModerationServer(server.url, timeout_s=0.5)
    )
    began_s = asyncio.get_running_loop().time()
    with pytest.raises(error):
        await servers.findings("a kite", "key", "user", "en")
    assert asyncio.get_running_loop().time() - began_s < 5
    server.mood = ""
    async with asyncio.timeout(5):
        while True:
            with suppress(error):  # of a request that was under way still, which the second one joins
                assert len(await servers.findings("a kite", "key", "user", "en")) == 2
                break
    await servers.close()


async def test_what_the_settings_name_is_asked() -> None:
    assert configured_servers(Settings()) == []
    settings = Settings(
        safety_guard_url="http://g/v1/", safety_guard_adapter="llama-guard-4", safety_moderation_url="http://m"
    )
    screens = configured_servers(settings)
    assert [screen.name for screen in screens] == ["llama-guard-4", "moderation"]
    for screen in screens:
        await screen.close()
