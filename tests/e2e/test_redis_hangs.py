"""The queue's server hangs for twenty seconds: every call of the API ends within its limit, and liveness is unmoved."""

import asyncio
import itertools
import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest

from service.redis.primary import CALL_LIMIT_S, CONNECT_LIMIT_S
from tests.e2e.load import ENGINES, Load
from tests.e2e.tree import FAST_LEASES, Tree, wait_for
from tests.redis_servers import RedisProcess

pytestmark = pytest.mark.timeout(180)

ROOT = Path(__file__).parents[2]
HANG_S = 20.0
# A request asks for what it wants, and where that fails once more to end its job: then nothing but connecting is tried
REQUEST_LIMIT_S = CALL_LIMIT_S + CONNECT_LIMIT_S
BUSY_S = 0.7  # what a busy machine takes beyond it


def test_a_hung_server_holds_nobody_up(tmp_path: Path) -> None:
    server = RedisProcess(tmp_path)
    variables = {"VISCPM_REDIS_URL": server.url, "VISCPM_HEARTBEAT_EXPIRY_S": "15"}
    tree = Tree(tmp_path / "data", **{**ENGINES, **FAST_LEASES, **variables})
    try:
        tree.wait_ready()
        with tree.client() as client:
            talk = client.post("/chat", json={"question": "echo one"}).json()["conversation_id"]
            job = client.post("/chat", json={"question": "echo two"}).json()["id"]
        rest = health_latency(tree, 200)
        with Load(tree.url, chats=2, streams=1, paints=1) as load:
            wait_for(lambda: len(load.ended) > 20, 30.0, "answers")
            with server.hung():
                liveness = subprocess.Popen(
                    health_command(tree, int(HANG_S * 40)), cwd=ROOT, stdout=subprocess.PIPE, text=True
                )
                times = asyncio.run(call_all(tree.url, talk, job, HANG_S))
                out, _ = liveness.communicate(timeout=60)
            wait_for(lambda: load.first_answers(30.0), 60.0, "normal service")
        slowest = {route: round(max(seconds), 2) for route, seconds in times.items()}
        health = json.loads(out)
        print(f"\nslowest calls, s: {slowest}; /health/live: {health}, at rest {rest}; clients: {dict(load.results)}")
        assert max(slowest.values()) < REQUEST_LIMIT_S + BUSY_S, slowest
        assert health["p99_ms"] < max(50, 4 * rest["p99_ms"]), (health, rest)
        # For a moment workers' heartbeats are too old; what was in hand is answered, and none of it wrongly
        assert load.wrong == [] and set(load.results) <= {"done", "bus_unavailable", "no_worker"}, load.results
        assert "starting it again" not in tree.log and "never retrieved" not in tree.log, tree.log
    finally:
        tree.stop()
        server.kill()


async def call_all(url: str, talk: str, job: str, duration_s: float) -> dict[str, list[float]]:
    """Every route that asks the server, again and again; the seconds that each took, by route."""
    calls: list[tuple[str, str, dict[str, object] | None]] = [
        ("POST", "/chat", {"question": "echo x"}),
        ("POST", "/chat", {"question": "stream 5", "stream": True}),
        ("POST", "/chat", {"question": "echo x", "conversation_id": talk}),
        ("POST", "/paint", {"prompt": "paint 1"}),
        ("GET", f"/jobs/{job}", None),
        ("GET", f"/jobs/{job}/events", None),
        ("DELETE", f"/jobs/{job}", None),
        ("GET", f"/conversations/{talk}", None),
        ("DELETE", f"/conversations/{talk}", None),
        ("GET", "/metrics", None),
        ("GET", "/health/ready", None),
    ]
    times: dict[str, list[float]] = {}
    codes: Counter[int] = Counter()

    async def call(client: httpx.AsyncClient, method: str, path: str, body: dict[str, object] | None) -> None:
        began_s = time.monotonic()
        response = await client.request(method, path, json=body)
        name = " ".join([method, path.split("/")[1], *(["stream"] if body and "stream" in body else [])])
        times.setdefault(name, []).append(time.monotonic() - began_s)
        codes[response.status_code] += 1

    ends_s = time.monotonic() + duration_s
    async with httpx.AsyncClient(base_url=url, timeout=60.0, trust_env=False) as client, asyncio.TaskGroup() as tasks:
        for method, path, body in itertools.cycle(calls):
            if time.monotonic() >= ends_s - REQUEST_LIMIT_S:
                break
            tasks.create_task(call(client, method, path, body))
            await asyncio.sleep(0.05)
    assert set(codes) <= {200, 503} and codes[503] > 0.6 * codes.total(), codes
    await asyncio.sleep(max(0.0, ends_s - time.monotonic()))
    return times


def health_command(tree: Tree, count: int) -> list[str]:
    return [sys.executable, "benchmarks/health_latency.py", "--url", tree.url, "--count", str(count)]


def health_latency(tree: Tree, count: int) -> dict[str, float]:
    measured: dict[str, float] = json.loads(subprocess.check_output(health_command(tree, count), cwd=ROOT, timeout=60))
    return measured
