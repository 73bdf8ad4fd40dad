"""The text screens that servers run, as an API process asks them: what they found is cached in Redis by content.

Covered: a guard model behind chat completions and a server of `/v1/moderations`, each with a version of its own in the
key of what is kept. Whatever goes wrong on the way raises.
Not covered: guards of a local folder, which safety workers run (screens.py).
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from models.jobs import ScreenFinding
from safety.text.guards.adapter import Role, Scores
from safety.text.guards.moderation import ModerationServer
from safety.text.guards.named import guard_adapter
from safety.text.guards.server import GuardServer
from safety.text.language import Language
from safety.verdict import Finding
from service.core.errors import BusUnavailable
from service.core.metrics import Metrics
from service.core.settings import Settings
from service.jobs.guards.shared_findings import SharedFindings
from service.queue.verdict_cache import VerdictCache


class ServerScreen(Protocol):
    """One of them (safety.text.guards)."""

    @property
    def name(self) -> str: ...

    @property
    def languages(self) -> frozenset[Language]: ...

    @property
    def fingerprint(self) -> str: ...

    async def scores(self, text: str, role: Role) -> Scores:
        """Raises ScreenOffline where it is away for now, UnreadableAnswer where it talks nonsense."""

    async def close(self) -> None: ...


class GuardServers:
    """All that are configured.

    Args:
        policy_version: under which what they find is kept.
    """

    def __init__(
        self, screens: Sequence[ServerScreen], policy_version: str, cache: VerdictCache, metrics: Metrics
    ) -> None:
        self._screens = tuple(screens)
        self._policy_version = policy_version
        self._cache = cache
        self._metrics = metrics
        self._shared = SharedFindings(metrics)

    def judge(self, language: Language) -> bool:
        """Whether any of them does."""
        return any(language in screen.languages for screen in self._screens)

    async def findings(self, text: str, key: str, role: Role, language: Language) -> list[Finding]:
        """Of every screen that judges this language, asked at the same time. Raises ScreenOffline, UnreadableAnswer.

        Args:
            key: the same for the same text of the same role.
        """
        own = [screen for screen in self._screens if language in screen.languages]
        return list(await asyncio.gather(*(self._finding(screen, text, key, role) for screen in own)))

    async def close(self) -> None:
        await self._shared.close()
        for screen in self._screens:
            await screen.close()

    async def _finding(self, screen: ServerScreen, text: str, key: str, role: Role) -> Finding:
        version = f"{self._policy_version}-{screen.name}-{screen.fingerprint}"
        self._metrics.count("verdict_cache_queries_total")
        [found] = await self._shared.get(
            f"{version}:{key}", lambda: self._known_or_asked(screen, version, text, key, role)
        )
        return Finding(found.screen, found.scores, found.version)

    async def _known_or_asked(
        self, screen: ServerScreen, version: str, text: str, key: str, role: Role
    ) -> list[ScreenFinding]:
        with suppress(BusUnavailable):  # then it is asked
            if (known := await self._cache.get(version, key)) is not None:
                self._metrics.count("verdict_cache_hits_total")
                return known
        began_s = time.monotonic()
        scores = await screen.scores(text, role)
        self._metrics.observe("safety_guard_latency_seconds", time.monotonic() - began_s, screen=screen.name)
        findings = [ScreenFinding(screen=screen.name, scores=scores, version=screen.fingerprint)]
        with suppress(BusUnavailable):  # then the next one is judged again
            await self._cache.put(version, key, findings)
        return findings


def configured_servers(settings: Settings) -> list[ServerScreen]:
    """Those that the settings name."""
    timeout_s = settings.safety_deadline_s
    screens: list[ServerScreen] = []
    if settings.safety_guard_url:
        adapter = guard_adapter(settings.safety_guard_adapter)
        key, model = settings.safety_guard_key, settings.safety_guard_model
        screens.append(GuardServer(settings.safety_guard_url, adapter, model, key, timeout_s))
    if settings.safety_moderation_url:
        key, model = settings.safety_moderation_key, settings.safety_moderation_model
        screens.append(ModerationServer(settings.safety_moderation_url, model, key, timeout_s))
    return screens
