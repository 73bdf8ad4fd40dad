"""GET /metrics: one scrape for a whole machine."""

import pytest

from service.core.settings import Settings
from service.process.embedded_redis import EmbeddedServer
from tests.service.tree import eventually, quick_settings
from tests.service.web import Service, assert_error, serving


@pytest.mark.slow
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


@pytest.mark.slow
async def test_a_scrape_waits_for_no_dead_worker(service: Service, settings: Settings) -> None:
    import asyncio

    from service.queue.heartbeat import WorkerInfo, send_heartbeat
    from service.redis.connection import RedisConnection, open_redis
    from service.redis.keys import Keys

    async def never_answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    mute = await asyncio.start_server(never_answers, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{mute.sockets[0].getsockname()[1]}/metrics"
    info = WorkerInfo("mute", "chat", "ready", "host", 1, 0.0, metrics_url=url)
    connection = RedisConnection(open_redis(settings))
    await send_heartbeat(connection, Keys("viscpm"), info, 5.0)
    await asyncio.sleep(0.3)
    began_s = asyncio.get_running_loop().time()
    text = (await service.client.get("/metrics")).text
    assert asyncio.get_running_loop().time() - began_s < 1.5
    assert 'worker="chat-' in text and 'viscpm_worker_heartbeat_age_seconds{model="chat",worker="mute"}' in text
    await connection.close()
    mute.close()


@pytest.mark.slow
async def test_a_server_that_is_away_is_a_figure_and_leaves_no_old_ones(own_server: EmbeddedServer) -> None:
    async with serving(quick_settings(own_server.url)) as service:
        await eventually(lambda: service.state.registry.is_fresh)
        assert await service.metric("viscpm_redis_up") == 1
        own_server.stop()
        await eventually(lambda: not service.state.registry.is_fresh, 20)
        text = (await service.client.get("/metrics")).text
        assert "viscpm_redis_up 0.0" in text
        assert "viscpm_worker_heartbeat_age_seconds{" not in text and "viscpm_queue_depth{" not in text
