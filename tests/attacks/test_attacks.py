"""The corpus against the real app: documented answers, nothing dialled that may not be, memory given back."""

import asyncio
import os
import sys
import time
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from service.core.settings import Settings
from tests.attacks.case import Case, Surroundings, asked
from tests.attacks.runner import CASES, run, send
from tests.attacks.target import ORIGIN_HOST, Target, attacked, surroundings
from tests.service.tree import WorkerProcess, eventually, quick_settings
from tests.service.web import Service, serving

MAX_GROWTH_BYTES = 16 * 2**20

pytestmark = [
    pytest.mark.process_tree,
    pytest.mark.skipif(sys.platform != "linux", reason="Linux: 127.0.0.0/8 is this machine there alone"),
    pytest.mark.timeout(1200),  # some ten seconds of work, whatever else the machine does
]

_dialled: list[Any] | None = None  # addresses of outgoing connections, while a test listens


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.connect" and _dialled is not None:
        _dialled.append(arguments[1])


sys.addaudithook(_audit)  # for good: hooks cannot be taken away


@pytest.fixture
def dialled() -> Any:
    global _dialled
    _dialled = []
    yield _dialled
    _dialled = None


def fetching(redis_url: str, *ports: int) -> Settings:
    return quick_settings(
        redis_url,
        models=("chat",),
        fetch_images=True,
        fetch_ports=(80, 443, *ports),
        fetch_allowed_networks=(ip_network(f"{ORIGIN_HOST}/32"),),
        fetch_timeout_s=5.0,
    )


async def until_ready(service: Service) -> None:
    async def is_ready() -> bool:
        return (await service.client.get("/health/ready")).status_code == 200

    await eventually(is_ready, 300.0)


def settled_bytes(target: Target) -> int:
    """The least resident memory of a second: an answer can be out before its picture is let go."""
    sizes = []
    for _ in range(10):
        sizes.append(target.resident_bytes())
        time.sleep(0.1)
    return min(sizes)


def test_the_corpus_is_large_and_every_attack_has_its_name() -> None:
    assert len({case.id for case in CASES}) == len(CASES)
    assert sum(400 <= case.status < 500 for case in CASES) >= 120


def test_every_attack_gets_its_documented_answer_and_memory_is_given_back(tmp_path: Path) -> None:
    """VISCPM_TEST_ATTACK_ROUNDS=20 is the full run; benchmarks/attack_corpus.py prints its table."""
    rounds = int(os.environ.get("VISCPM_TEST_ATTACK_ROUNDS", "1"))
    with attacked(tmp_path) as target:

        def attack(cases: list[Case]) -> int:
            wrong = [str(outcome) for outcome in run(cases, target.url, target.around, clients=8) if outcome.problem]
            assert not wrong, "\n".join(wrong)
            return settled_bytes(target)

        cold = settled_bytes(target)
        # What the first pictures load and the pools they fill stays: 4 to 21 MiB, by how many meet
        before = attack([case for case in CASES if not case.is_slow])
        assert before - cold < 2 * MAX_GROWTH_BYTES
        after = [attack(CASES) for _ in range(rounds)]
        if after[-1] - before >= MAX_GROWTH_BYTES:  # more met than ever before: a pool is filled once, a leak grows on
            before, after = after[-1], [attack(CASES) for _ in range(rounds)]
        assert after[-1] - before < MAX_GROWTH_BYTES, f"{before} before, then {after}"
        assert not target.canary.connections
        assert target.hostile.requests > 0
        said = target.api.log
        assert "Traceback" not in said, said


async def test_nothing_is_dialled_that_may_not_be(redis_url: str, worker: WorkerProcess, dialled: list[Any]) -> None:
    """Every connection that this process opens is known: the service's own server, the service, the origin."""
    cases = [case for case in CASES if case.group in ("addresses", "urls", "redirects")]
    with surroundings() as (hostile, canary):
        async with serving(fetching(redis_url, canary.port, hostile.server_address[1])) as service:
            await until_ready(service)
            around = Surroundings(hostile.url, canary.port)
            outcomes = await asyncio.to_thread(lambda: list(run(cases, service.url, around, clients=8)))
        assert not [str(outcome) for outcome in outcomes if outcome.problem]
        assert not canary.connections
        assert hostile.requests > 20
        hosts = {address if isinstance(address, str | bytes) else tuple(address[:2]) for address in dialled}
        origin, own = (ORIGIN_HOST, hostile.server_address[1]), ("127.0.0.1", int(service.url.rpartition(":")[2]))
        assert {origin, own} <= hosts
        others = {host for host in hosts - {origin, own} if not _is_redis(host, redis_url)}
        assert not others, f"also dialled: {others}"
        async with serving(quick_settings(redis_url, models=("chat",))) as service:  # one that does not fetch at all
            await until_ready(service)
            some = cases[::9]
            outcomes = await asyncio.to_thread(lambda: list(run(some, service.url, around, is_fetching=False)))
        assert not [str(outcome) for outcome in outcomes if outcome.problem]


def _is_redis(address: Any, redis_url: str) -> bool:
    return str(address) in redis_url or (isinstance(address, tuple) and f"{address[0]}:{address[1]}" in redis_url)


async def test_a_name_that_changes_its_address_is_dialled_where_it_was_checked(
    redis_url: str, worker: WorkerProcess, dialled: list[Any]
) -> None:
    """DNS rebinding: the first answer may be dialled, all later ones are the loopback address of a listener."""
    with surroundings() as (hostile, canary):
        asked_for: list[str] = []

        async def rebind(host: str, port: int) -> list[str]:
            asked_for.append(host)
            return [ORIGIN_HOST] if len(asked_for) == 1 else ["127.0.0.1"]

        port = hostile.server_address[1]
        async with serving(fetching(redis_url, canary.port, port)) as service:
            await until_ready(service)
            service.state.images.fetcher.destinations.resolve = rebind

            def ask(path: str) -> tuple[int, bytes]:
                return send(asked(f"http://pictures.example.org:{port}{path}"), service.url, 30.0)

            status, _ = await asyncio.to_thread(ask, "/picture")
            assert status == 200 and asked_for == ["pictures.example.org"]
            status, body = await asyncio.to_thread(ask, "/picture")
            assert status == 400 and b"blocked_url" in body
            asked_for.clear()
            away = f"/redirect?to=http://pictures.example.org:{canary.port}/"
            status, body = await asyncio.to_thread(ask, away)
            assert status == 400 and b"blocked_url" in body and len(asked_for) == 2
        assert not canary.connections
        assert ("127.0.0.1", canary.port) not in [tuple(one[:2]) for one in dialled if isinstance(one, tuple)]
