"""A model is replaced worker by worker: answers name the model that gave them, and jobs fit it or are told so."""

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from service.core.settings import Settings
from service.process.embedded_redis import EmbeddedServer
from tests.service.tree import WorkerProcess, eventually, log_lines, quick_settings
from tests.service.web import Service, assert_error, encoded, serving, sse_events

pytestmark = pytest.mark.own_process

Start = Callable[..., WorkerProcess]


@pytest.fixture
def settings(own_server: EmbeddedServer) -> Settings:
    return quick_settings(own_server.url, models=("chat",), chat_max_jobs=1)


def of(settings: Settings, checkpoint: str) -> Settings:
    return settings.model_copy(update={"chat_checkpoint": checkpoint})


async def has_workers(service: Service, count: int) -> bool:
    workers = (await service.client.get("/health/ready")).json()["models"]["chat"]["workers"]
    return [worker["state"] for worker in workers] == ["ready"] * count


async def test_each_answer_names_the_model_of_the_worker_that_gave_it(
    settings: Settings, start_worker: Start, engine_log: Path
) -> None:
    workers = {name: start_worker(of(settings, f"{name}:2"), step_s=0.005) for name in ("old", "new")}
    pids = {str(worker.process.pid): name for name, worker in workers.items()}
    async with serving(settings) as service:
        await eventually(lambda: has_workers(service, 2), 20.0)
        asked = [service.ask(f"stream {3 + i % 5}", image=encoded(), stream=i % 3 == 0) for i in range(30)]
        answers = [
            sse_events(answer.text)[-2][1] if i % 3 == 0 else answer.json()
            for i, answer in enumerate(await asyncio.gather(*asked))
        ]
        told = {answer["id"]: answer["model"] for answer in answers}
        gave = {job_id: pids[log_lines(engine_log, "done", job_id)[0][0]] for job_id in told}
        assert told == gave
        assert min(Counter(gave.values()).values()) >= 3 and set(gave.values()) == {"old", "new"}
        for answer in answers:
            conversation = (await service.client.get(f"/conversations/{answer['conversation_id']}")).json()
            assert conversation["model"] == answer["model"], "what it began with"


async def test_conversations_go_on_and_no_model_is_named_that_nobody_serves(
    settings: Settings, start_worker: Start, engine_log: Path
) -> None:
    old = start_worker(of(settings, "old:2"))
    async with serving(settings) as service:
        await service.ready()
        first = (await service.ask("echo a house", image=encoded())).json()
        assert first["model"] == "old"
        old.kill()
        slow = of(settings, "new:2").model_copy(update={"chat_engine": "tests.service.engines:create_slowly"})
        loading = start_worker(slow)

        async def is_loading() -> bool:
            report = (await service.client.get("/health/ready")).json()["models"]["chat"]
            return report["state"] == "loading" and len(report["workers"]) == 1

        await eventually(is_loading, 20.0)
        assert (await service.client.get("/health/ready")).json()["models"]["chat"]["name"] is None
        assert (await service.client.get("/v2/models/chat")).json()["versions"] == []
        turn = {"conversation_id": first["conversation_id"], "stream": True}
        waiting = asyncio.create_task(service.ask("echo its colour", **turn))
        await asyncio.sleep(0.3)
        loading.kill()
        start_worker(of(settings, "new:2"))
        text = (await asyncio.wait_for(waiting, 20)).text
        begin, answer = sse_events(text)[0][1], sse_events(text)[-2][1]
        assert (begin["model"], answer["model"], answer["answer"]) == ("", "new", "its colour")
        assert '"old"' not in text
        job = (await service.client.get(f"/jobs/{answer['id']}/events")).text
        assert '"old"' not in job and '"model":"new"' in job
        kept = (await service.client.get(f"/conversations/{first['conversation_id']}")).json()
        assert [one["answer"] for one in kept["turns"]] == ["a house", "its colour"]
        assert log_lines(engine_log, "done", answer["id"])


async def test_pictures_for_another_input_size_are_told_so(settings: Settings, start_worker: Start) -> None:
    old = start_worker(of(settings, "old:2"), step_s=0.005)
    async with serving(settings) as service:
        await service.ready()
        talk = (await service.ask("echo a", image=encoded())).json()["conversation_id"]
        new = start_worker(of(settings, "new:4"), step_s=0.005)
        await eventually(lambda: has_workers(service, 2), 20.0)
        answers = await asyncio.gather(*(service.ask("stream 5", image=encoded()) for _ in range(20)))
        statuses = Counter(answer.status_code for answer in answers)
        assert set(statuses) == {200, 503}, statuses
        for answer in answers:
            if answer.status_code == 503:
                error = assert_error(answer, 503, "model_unavailable")
                assert "made for a model of 4 px" in error["message"] and "serves one of 2 px" in error["message"]
                assert int(answer.headers["retry-after"]) >= 1
            else:
                assert answer.json()["model"] == "new"
        old.kill()
        await eventually(lambda: has_workers(service, 1))
        assert (await service.ask("echo a", image=encoded())).json()["model"] == "new"
        assert_error(await service.ask("echo b", conversation_id=talk), 400, "invalid_request", "conversation_id")
        assert new.process.poll() is None
        assert sum((await service.accounting()).values()) == 23
