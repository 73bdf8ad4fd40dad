"""Keys over HTTP: which routes want one, what a wrong one is told, what one tenant learns of another: nothing."""

import json
import logging
import re
from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.access.wrong_keys import WrongKeys
from service.core.settings import Settings
from service.http.access.authentication import authenticate
from service.http.app import create_app
from service.http.openapi import access_of
from tests.service.http.access.keyed import KeyedService, keyed
from tests.service.tree import eventually
from tests.service.web import Service, assert_error, encoded, serving

OPEN = re.compile(r"/health/.*|/v2.*|/metrics|/v1/images/pictures/.*")


@pytest.fixture
async def guarded_by_keys(settings: Settings) -> AsyncIterator[KeyedService]:
    async with keyed(settings) as service:
        yield service


@pytest.mark.slow
async def test_every_route_asks_for_a_key_but_those_that_machines_ask(guarded_by_keys: KeyedService) -> None:
    client = guarded_by_keys.service.client
    asked = [
        (method.upper(), path, operation)
        for path, operations in (await client.get("/openapi.json")).json()["paths"].items()
        for method, operation in operations.items()
    ]
    assert len(asked) > 12
    for method, path, operation in asked:
        answer = await client.request(method, re.sub(r"\{\w+\}", "chat", path))
        is_open = bool(OPEN.fullmatch(path))
        assert (answer.status_code != 401) is is_open, (method, path)
        assert (operation["security"] == []) is is_open, (method, path)
    scopes = {path: list(operation["security"][0].values()) for _, path, operation in asked if operation["security"]}
    assert [["admin"]] not in [scopes[path] for path in scopes if not path.startswith("/admin")], (
        "says nothing of itself"
    )


@pytest.mark.slow
def test_an_open_service_pays_nothing() -> None:
    for settings in (
        Settings(),
        Settings(host="0.0.0.0", auth="off"),
        Settings(host="::1"),
        Settings(host="localhost"),
    ):
        assert create_app(settings).router.dependencies == []
    for settings in (Settings(auth="on"), Settings(host="0.0.0.0"), Settings(host="api.example.org")):
        [dependency] = create_app(settings).router.dependencies
        assert dependency.dependency is authenticate, "also where the app was started in another way than by `viscpm`"


async def test_a_route_that_says_nothing_asks_for_admin() -> None:
    assert access_of(object()) == "admin"


@pytest.mark.slow
async def test_without_a_good_key_nothing_is_told(guarded_by_keys: KeyedService) -> None:
    client = guarded_by_keys.service.client
    _, key = await guarded_by_keys.client()
    for headers in ({}, {"authorization": "Digest eDp5"}, {"authorization": "Bearer"}):
        refused = await client.get("/jobs/nope", headers=headers)
        error = assert_error(refused, 401, "invalid_api_key")
        assert error["type"] == "invalid_request_error"
        assert refused.headers["www-authenticate"] == 'Bearer realm="viscpm"'
    wrong = f"vk-{key.id}-{'x' * 43}"
    for headers in (
        {"authorization": f"Bearer {wrong}"},
        {"authorization": f"Basic {b64encode(f'me:{wrong}'.encode()).decode()}"},
        {"authorization": "Basic no-base64!"},
        {"x-api-key": wrong},
        {"x-api-key": "sk-other"},
    ):
        refused = await client.post("/chat", json={"question": "echo x"}, headers=headers)
        assert_error(refused, 401, "invalid_api_key")
        assert 'error="invalid_token"' in refused.headers["www-authenticate"]
    for path in ("/health/live", "/health/ready", "/metrics", "/v2", "/openapi.json"):
        assert (await client.get(path)).status_code == 200, path
    missing = 'viscpm_auth_refusals_total{reason="missing"}'
    assert await guarded_by_keys.service.metric(missing) == 3
    assert await guarded_by_keys.service.metric('viscpm_auth_refusals_total{reason="wrong"}') == 5
    assert await guarded_by_keys.service.accounting() == {}


@pytest.mark.slow
async def test_a_key_may_come_as_a_password(guarded_by_keys: KeyedService) -> None:
    """As A1111's clients send it; and whoever has none is told what is not there, not to bring one."""
    client, _ = await guarded_by_keys.client()
    text = client.headers["authorization"].removeprefix("Bearer ")
    anybody = guarded_by_keys.service.client
    basic = {"authorization": f"Basic {b64encode(f'anybody:{text}'.encode()).decode()}"}
    assert (await anybody.post("/chat", json={"question": "echo x"}, headers=basic)).status_code == 200
    for path in ("edits", "variations"):
        assert_error(await anybody.post(f"/v1/images/{path}"), 404, "not_found")


@pytest.mark.slow
async def test_wrong_keys_are_slowed_and_right_ones_from_there_are_not(
    guarded_by_keys: KeyedService,
) -> None:
    waits_s: list[float] = []

    async def note(wait_s: float) -> None:
        waits_s.append(wait_s)

    client, _ = await guarded_by_keys.client()
    guarded_by_keys.service.state.wrong_keys = WrongKeys(sleep=note)
    for _ in range(6):
        assert (await guarded_by_keys.service.client.get("/jobs/x", headers={"x-api-key": "no"})).status_code == 401
    assert waits_s == [0.2, 0.4, 0.8]
    assert_error(await client.get("/jobs/x"), 404, "job_not_found")


@pytest.mark.slow
async def test_a_scope_that_is_missing_is_named(guarded_by_keys: KeyedService) -> None:
    painter, _ = await guarded_by_keys.client(scopes=("paint",))
    error = assert_error(await painter.post("/chat", json={"question": "echo x"}), 403, "insufficient_scope")
    assert "chat" in error["message"] and "paint" in error["message"]
    assert_error(await painter.post("/v1/moderations", json={"input": "x"}), 403, "insufficient_scope")
    assert_error(await painter.get("/conversations/conv-x"), 403, "insufficient_scope")
    answer = await painter.post("/paint", json={"prompt": "x"})
    assert answer.status_code == 200
    assert (await painter.get(f"/jobs/{answer.json()['id']}")).status_code == 200
    admin, _ = await guarded_by_keys.client(scopes=("admin",))
    assert (await admin.post("/chat", json={"question": "echo x"})).status_code == 200


@pytest.mark.slow
async def test_a_model_that_the_key_may_not_ask(guarded_by_keys: KeyedService) -> None:
    client, _ = await guarded_by_keys.client(models=("scripted", "nothing"))
    assert (await client.post("/chat", json={"question": "echo x"})).status_code == 200, "by the model's name"
    error = assert_error(await client.post("/paint", json={"prompt": "x"}), 403, "insufficient_scope")
    assert "scripted" in error["message"]
    assert await guarded_by_keys.service.accounting() == {"done": 1}


async def test_log_and_audit_lines_name_the_key(
    settings: Settings, audit_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "service.http.middleware")
    changed = {"safety": "on", "safety_audit_file": str(audit_file), "models": ("chat",)}
    async with keyed(settings.model_copy(update=changed), is_awaited=False) as keyed_service:
        client, key = await keyed_service.client(scopes=("moderate",))
        await client.post("/v1/moderations", json={"input": "a harmless text"})
    lines = [getattr(record, "fields", {}) for record in caplog.records if record.message == "request"]
    assert [line["key_id"] for line in lines if line["route"] == "/v1/moderations"] == [key.id]
    assert set(_audited_keys(audit_file)) == {key.id}


def _audited_keys(audit_file: Path) -> list[str]:
    return [json.loads(line)["key"] for line in audit_file.read_text().splitlines()]


@pytest.mark.slow
async def test_one_tenant_learns_nothing_of_another(guarded_by_keys: KeyedService) -> None:
    """Forty-two ways to read, cancel, resume, go on with, fetch or guess what is another's: 404 to all of them."""
    owner, _ = await guarded_by_keys.client("owner")
    stranger, _ = await guarded_by_keys.client("stranger")
    answer = (await owner.post("/chat", json={"question": "echo mine", "image": encoded()})).json()
    picture = (await owner.post("/paint", json={"prompt": "x"})).json()
    asynchronous = {"Prefer": "respond-async"}
    running = (await owner.post("/chat", json={"question": "stream 100000"}, headers=asynchronous)).json()
    jobs = [answer["id"], picture["id"], running["id"]]
    talk = answer["conversation_id"]
    response = (await owner.post("/v1/responses", json={"model": "gpt-4o", "input": "echo mine"})).json()["id"]
    guesses = [talk.upper(), f"owner:{talk}", f"owner%3A{talk}", f"stranger:{talk}", f"..%2F{talk}", f"{talk}:turns"]

    attempts = [(method, f"/jobs/{job}") for job in jobs for method in ("GET", "HEAD", "DELETE")]  # 9
    attempts += [("GET", f"/jobs/{job}/events") for job in jobs]  # 12
    attempts += [("GET", f"/jobs/{job}?include=moderation") for job in jobs]  # 15
    attempts += [(method, f"/conversations/{talk}") for method in ("GET", "HEAD", "DELETE")]  # 18
    attempts += [(method, f"/conversations/{guess}") for guess in guesses for method in ("GET", "DELETE")]  # 30
    attempts += [("GET", f"/jobs/{job.swapcase()}") for job in jobs]  # 33
    statuses = [(await stranger.request(method, path)).status_code for method, path in attempts]
    for job in jobs:  # 36
        headers = {"Last-Event-ID": "1"}
        statuses.append((await stranger.get(f"/jobs/{job}/events", headers=headers)).status_code)
    goes_on = {"conversation_id": talk, "question": "echo whose?"}
    for body in (
        goes_on,
        goes_on | {"stream": True},
        goes_on | {"image": encoded()},
        goes_on | {"strict_length": True},
    ):
        statuses.append((await stranger.post("/chat", json=body)).status_code)  # 40
    for method in ("GET", "DELETE"):  # 42
        statuses.append((await stranger.request(method, f"/v1/responses/{response}")).status_code)
    assert len(statuses) == 42 and set(statuses) == {404}, statuses
    assert (await owner.get(f"/v1/responses/{response}")).status_code == 200

    assert (await owner.get(f"/jobs/{running['id']}")).json()["state"] in ("queued", "running")
    assert len((await owner.get(f"/conversations/{talk}")).json()["turns"]) == 1
    same = (await stranger.post("/chat", json={"question": "echo mine", "image": encoded()})).json()
    assert same["vision_cached"] is False, "that a picture was seen before is a tenant's own secret"
    await owner.delete(f"/jobs/{running['id']}")

    async def is_over() -> bool:
        return (await owner.get(f"/jobs/{running['id']}")).json()["state"] == "cancelled"

    await eventually(is_over)


@pytest.mark.slow
async def test_keys_of_one_tenant_share_what_is_theirs(guarded_by_keys: KeyedService) -> None:
    one, _ = await guarded_by_keys.client("acme")
    other, _ = await guarded_by_keys.client("acme")
    answer = (await one.post("/chat", json={"question": "echo ours"})).json()
    assert (await other.get(f"/jobs/{answer['id']}")).json()["answer"] == answer


async def test_an_open_service_ignores_keys(settings: Settings) -> None:
    async with serving(settings) as service:
        await _answers_any_key(service)


async def _answers_any_key(service: Service) -> None:
    await service.ready()
    headers = {"authorization": "Bearer anything-goes"}
    assert (await service.client.post("/chat", json={"question": "echo x"}, headers=headers)).status_code == 200
