"""Health over HTTP, in our own form and in KServe's."""

from tests.service.tree import quick_settings
from tests.service.web import Service, assert_error, serving


async def test_readiness_names_models_workers_and_screens(service: Service) -> None:
    assert (await service.client.get("/health/live")).json() == {"status": "live"}
    report = (await service.client.get("/health/ready")).json()
    assert report["status"] == "ready" and report["down"] == [] and report["redis"] == "up"
    assert report["screens"] == "open" and report["untrained"] is True
    chat = report["models"]["chat"]
    assert (chat["state"], chat["name"], chat["untrained"]) == ("ready", "scripted", False)
    assert chat["workers"][0]["running"] == chat["workers"][0]["waiting"] == 0
    assert chat["workers"][0]["kv_cache_usage_ratio"] == 0
    assert (chat["workers"][0]["device"], chat["workers"][0]["quantization"]) == ("cpu", "off")
    assert chat["workers"][0]["device_turn"] == "own"
    assert chat["workers"][0]["state"] == "ready" and chat["workers"][0]["heartbeat_age_s"] < 1


async def test_without_workers_nothing_is_ready_and_jobs_are_refused(own_server: object) -> None:
    async with serving(quick_settings(own_server.url)) as service:  # type: ignore[attr-defined]
        response = await service.client.get("/health/ready")
        assert response.status_code == 503 and response.json()["down"] == ["chat", "paint"]
        assert response.json()["models"]["chat"]["state"] == "absent"
        refused = await service.ask("echo x")
        assert_error(refused, 503, "no_worker")
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
