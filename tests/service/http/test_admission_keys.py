"""Limits of API keys over HTTP: exact over three API processes, and told in the headers."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from service.access.api_keys import KeyLimits
from service.access.usage import today
from service.core.settings import Settings
from service.process import keys_cli
from service.process.api_server import bind, url_of
from service.process.parent_death import dies_with_parent
from tests.service.http.access.keyed import KeyedService, keyed
from tests.service.tree import ROOT, eventually, log_lines
from tests.service.web import assert_error, sse_events


@pytest.fixture
async def by_keys(settings: Settings) -> AsyncIterator[KeyedService]:
    async with keyed(settings) as service:
        yield service


@contextmanager
def api_processes(settings: Settings, count: int) -> Iterator[list[str]]:
    """Their URLs; each a `viscpm api` of its own."""
    changed = settings.model_dump(mode="json", exclude_defaults=True, exclude={"models", "cuda_memory_cpmbee_max"})
    environment = os.environ | {f"VISCPM_{name.upper()}": str(value) for name, value in changed.items()}
    environment |= {"PYTHONPATH": str(ROOT), "VISCPM_AUTH": "on", "VISCPM_LOG_LEVEL": "warning"}
    with ExitStack() as stack:
        urls = []
        for _ in range(count):
            listener = stack.enter_context(bind("127.0.0.1", 0))
            command = [sys.executable, "-m", "service.process.cli", "api", "--fd", str(listener.fileno())]
            api = subprocess.Popen(dies_with_parent(command), env=environment, cwd=ROOT, pass_fds=[listener.fileno()])
            stack.callback(api.wait)
            stack.callback(api.terminate)
            urls.append(url_of(listener))
        yield urls


@pytest.mark.slow
async def test_a_hundred_at_once_at_three_api_processes_and_ten_pass(by_keys: KeyedService, settings: Settings) -> None:
    with api_processes(settings, 3) as urls:
        _, text = await by_keys.store.create("app", "acme", ("chat",), limits=KeyLimits(requests_per_min=10))
        clients = [await by_keys.client_of(text, url) for url in urls]

        async def are_ready() -> bool:
            return {(await client.get("/health/ready")).status_code for client in clients} == {200}

        await eventually(are_ready, 60.0)
        answers = await asyncio.gather(
            *(clients[i % 3].post("/chat", json={"question": f"echo {i}"}) for i in range(100))
        )
        statuses = [answer.status_code for answer in answers]
        assert (statuses.count(200), statuses.count(429)) == (10, 90)
        remaining = sorted(
            int(one.headers["x-ratelimit-remaining-requests"]) for one in answers if one.status_code == 200
        )
        assert remaining == list(range(10)), "each of those that passed was counted by itself"
        for refused in (one for one in answers if one.status_code == 429):
            assert_error(refused, 429, "rate_limit_exceeded")
            assert 1 <= int(refused.headers["retry-after"]) <= 60
            assert refused.headers["x-ratelimit-limit-requests"] == "10"
            assert refused.headers["x-ratelimit-remaining-requests"] == "0"
        assert await by_keys.service.accounting() == {"done": 10}


@pytest.mark.slow
async def test_a_tenant_that_fills_the_queue_leaves_another_its_share_and_its_turn(
    settings: Settings, worker_log: Path
) -> None:
    async with keyed(settings.model_copy(update={"queue_size": 6})) as service:
        flood, _ = await service.client("flood")
        single, _ = await service.client("single")
        endless = {"question": "stream 100000"}
        answers = await asyncio.gather(*(flood.post("/chat?async=true", json=endless) for _ in range(9)))
        jobs = [answer.json()["id"] for answer in answers if answer.status_code == 202]
        assert len(jobs) == 6
        for answer in (one for one in answers if one.status_code != 202):
            assert "all 6 slots of chat are taken, try" in assert_error(answer, 429, "queue_full")["message"]
        await eventually(lambda: len(_admitted(worker_log, jobs)) == 4)

        job = (await single.post("/chat?async=true", json=endless)).json()["id"]
        refused = assert_error(await flood.post("/chat", json=endless), 429, "queue_full")
        assert "6 of them by this tenant, whose share among 2 tenants is 3" in refused["message"]
        await flood.delete(f"/jobs/{_admitted(worker_log, jobs)[0]}")
        await eventually(lambda: len(_admitted(worker_log, [*jobs, job])) == 5)
        assert _admitted(worker_log, [*jobs, job])[-1] == job, "before those that waited already"
        for each, client in [(job, single), *((each, flood) for each in reversed(jobs))]:
            await client.delete(f"/jobs/{each}")
        assert await service.service.accounting() == {"cancelled": 7}


def _admitted(log: Path, jobs: list[str]) -> list[str]:
    """Of these, in the order in which the worker began with them."""
    return [line[2] for line in log_lines(log, "admit") if line[2] in jobs]


@pytest.mark.slow
async def test_tokens_and_jobs_of_a_key(by_keys: KeyedService) -> None:
    client, key = await by_keys.client(limits=KeyLimits(tokens_per_min=1))
    first = await client.post("/chat", json={"question": "stream 5"})
    assert first.status_code == 200 and first.headers["x-ratelimit-remaining-tokens"] == "1"
    refused = await client.post("/paint", json={"prompt": "x"})
    error = assert_error(refused, 429, "rate_limit_exceeded")
    used = first.json()["usage"]["prompt_tokens"] + first.json()["usage"]["completion_tokens"]
    assert f"used {used} tokens in this minute" in error["message"] and error["type"] == "rate_limit_error"
    assert (
        await by_keys.service.metric('viscpm_queue_rejections_total{model="paint",reason="rate_limit_exceeded"}') == 1
    )

    limited, _ = await by_keys.client(limits=KeyLimits(max_jobs=1))
    running = await _started(limited)
    assert_error(await limited.post("/chat", json={"question": "echo x"}), 429, "rate_limit_exceeded")
    await limited.delete(f"/jobs/{running}")
    assert (await limited.post("/chat", json={"question": "echo x"})).status_code == 200


async def _started(client: httpx.AsyncClient) -> str:
    body = {"question": "stream 100000"}
    job_id: str = (await client.post("/chat", json=body, headers={"Prefer": "respond-async"})).json()["id"]
    return job_id


@pytest.mark.slow
async def test_streams_tell_their_limits_and_count_as_others_do(by_keys: KeyedService) -> None:
    client, key = await by_keys.client(limits=KeyLimits(requests_per_min=5))
    streamed = await client.post("/chat", json={"question": "stream 3", "stream": True})
    assert streamed.headers["x-ratelimit-remaining-requests"] == "4"
    moderated = await client.post("/v1/moderations", json={"input": "x"})
    assert moderated.headers["x-ratelimit-remaining-requests"] == "3"
    painted = (await client.post("/paint", json={"prompt": "x", "n": 2, "num_inference_steps": 3})).json()
    answer = sse_events(streamed.text)[-2][1]
    stored = await by_keys.service.redis.hgetall(f"{{viscpm}}:usage:{key.id}:{today()}")
    prompt_tokens = answer["usage"]["prompt_tokens"] + painted["usage"]["input_tokens"]
    assert {name.decode(): int(count) for name, count in stored.items()} == {
        "requests": 3,
        "prompt_tokens": prompt_tokens,
        "completion_tokens": answer["usage"]["completion_tokens"],
        "pictures": 2,
        "steps": 6,
    }
    unlimited, _ = await by_keys.client()
    assert not [name for name in (await unlimited.get("/jobs/x")).headers if name.startswith("x-ratelimit")]


@pytest.mark.slow
async def test_what_the_command_line_changes_of_a_key_holds_without_a_restart(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VISCPM_REDIS_URL", settings.redis_url)
    async with keyed(settings.model_copy(update={"key_cache_s": 0.2})) as by_keys:
        client, key = await by_keys.client(limits=KeyLimits(requests_per_min=1))

        async def ask(path: str = "/chat", **body: object) -> httpx.Response:
            return await client.post(path, json=body or {"question": "echo x"})

        async def change(*flags: str) -> None:
            assert await asyncio.to_thread(keys_cli.main, ["change", "app", *flags]) == 0
            await asyncio.sleep(0.25)

        assert [(await ask()).status_code for _ in range(2)] == [200, 429]
        await change("--requests-per-minute", "3", "--scopes", "chat")
        told = await ask()
        assert (told.status_code, told.headers["x-ratelimit-limit-requests"]) == (200, "3")
        assert_error(await ask("/paint", prompt="x"), 403, "insufficient_scope")
        await change("--requests-per-min", "0", "--expires", "1s")
        assert "x-ratelimit-limit-requests" not in (await ask()).headers
        await asyncio.sleep(1.0)
        assert_error(await ask(), 401, "invalid_api_key")
        await change("--expires", "never")
        assert (await ask()).status_code == 200
        assert (await by_keys.store.find(key.id)).sha256 == key.sha256  # type: ignore[union-attr]
