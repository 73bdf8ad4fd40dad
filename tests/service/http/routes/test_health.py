"""Health and metrics over HTTP."""

import pytest

from service.core.settings import Settings
from tests.service.tree import quick_settings
from tests.service.web import Service, assert_error, serving


async def test_readiness_names_models_workers_and_screens(service: Service) -> None:
    assert (await service.client.get("/health/live")).json() == {"status": "live"}
    report = (await service.client.get("/health/ready")).json()
    assert report["status"] == "ready" and report["down"] == [] and report["redis"] == "up"
    assert report["screens"] == "open" and report["untrained"] is True
    chat = report["models"]["chat"]
    assert (chat["state"], chat["name"], chat["untrained"]) == ("ready", "scripted", False)
    assert chat["workers"][0]["state"] == "ready" and chat["workers"][0]["heartbeat_age_s"] < 1


async def test_without_workers_nothing_is_ready_and_jobs_are_refused(own_server: object) -> None:
    async with serving(quick_settings(own_server.url)) as service:  # type: ignore[attr-defined]
        response = await service.client.get("/health/ready")
        assert response.status_code == 503 and response.json()["down"] == ["chat", "paint"]
        assert response.json()["models"]["chat"]["state"] == "absent"
        refused = await service.ask("echo x")
        assert_error(refused, 503, "model_loading")
        assert int(refused.headers["retry-after"]) >= 1
        assert (await service.client.get("/v2/health/ready")).status_code == 503
        assert (await service.client.get("/health/live")).status_code == 200
        assert await service.accounting() == {}


async def test_kserves_names(service: Service) -> None:
    get = service.client.get
    assert (await get("/v2")).json()["name"] == "viscpm-service"
    for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/chat/ready", "/v2/models/paint/ready"):
        response = await get(path)
        assert (response.status_code, response.content) == (200, b"")
    assert (await get("/v2/models/chat")).json()["versions"] == ["scripted"]
    assert_error(await get("/v2/models/other"), 404, "model_not_found")
    assert_error(await get("/v2/models/other/ready"), 404, "model_not_found")


async def test_draining_is_told_and_takes_no_new_jobs(service: Service) -> None:
    service.state.begin_drain()
    assert (await service.client.get("/health/live")).status_code == 200
    report = await service.client.get("/health/ready")
    assert report.status_code == 503 and report.json()["down"] == ["api"]
    for path in ("/chat", "/paint"):
        refused = await service.client.post(path, json={"question": "q"})
        assert_error(refused, 503, "draining")
        assert int(refused.headers["retry-after"]) >= 1


@pytest.mark.usefixtures("patient_scrapes")
async def test_one_scrape_shows_the_api_and_every_worker(service: Service) -> None:
    await service.ask("stream 3")
    await service.client.post("/paint", json={"prompt": "x"})
    assert await service.metric('viscpm_requests_total{outcome="ok",route="/chat"}') == 1
    assert await service.metric('viscpm_e2e_request_latency_seconds_count{route="/paint"}') == 1
    assert await service.metric('viscpm_jobs{model="chat",state="done"}') == 1
    assert await service.metric('viscpm_jobs{model="paint",state="accepted"}') == 1
    assert await service.metric('viscpm_queue_depth{model="chat"}') == 0
    assert await service.metric("viscpm_process_resident_memory_bytes") > 2**20
    response = await service.client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    lines = response.text.splitlines()
    workers = {line.split('worker="')[1].split('"')[0] for line in lines if "viscpm_jobs_started_total{" in line}
    assert {worker.split("-")[0] for worker in workers} == {"chat", "paint"}
    helps = [line.split()[2] for line in lines if line.startswith("# HELP")]
    assert len(helps) == len(set(helps))
    only_api = (await service.client.get("/metrics", params={"scope": "api"})).text
    assert "viscpm_jobs_started_total" not in only_api and "viscpm_requests_total" in only_api
    assert_error(await service.client.get("/metrics", params={"scope": "x"}), 400, "invalid_request", "scope")


async def test_a_scrape_waits_for_no_dead_worker(service: Service, settings: Settings) -> None:
    import asyncio

    from service.queue.connection import RedisConnection
    from service.queue.heartbeat import WorkerInfo, send_heartbeat

    async def never_answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    mute = await asyncio.start_server(never_answers, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{mute.sockets[0].getsockname()[1]}/metrics"
    info = WorkerInfo("mute", "chat", "ready", "host", 1, 0.0, metrics_url=url)
    connection = RedisConnection(service.redis)
    await send_heartbeat(connection, info, 5.0)
    await asyncio.sleep(0.3)
    began_s = asyncio.get_running_loop().time()
    text = (await service.client.get("/metrics")).text
    assert asyncio.get_running_loop().time() - began_s < 1.5
    assert 'worker="chat-' in text and 'viscpm_worker_heartbeat_age_seconds{model="chat",worker="mute"}' in text
    await connection.close()
    mute.close()
