"""/v1/batches over HTTP, with real workers behind them."""

import asyncio
from typing import Any

import pytest
import pytest_asyncio

from tests.service.http.access.keyed import keyed
from tests.service.http.batch_calls import begin, ended, jsonl, question, request_line, results, upload
from tests.service.tree import eventually
from tests.service.web import Service, assert_error, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def emptied(module_service: Service) -> None:
    """No batch of an earlier test is left to work on."""
    await module_service.redis.delete("{viscpm}:batches", "{viscpm}:accounting")


@pytest.mark.slow
async def test_a_batch_of_questions_is_answered_as_they_would_be(module_service: Service) -> None:
    client = module_service.client
    lines = [request_line(f"q{number}", question(f"echo answer {number}")) for number in range(6)]
    lines.append(request_line("wrong", {"model": "gpt-4o"}))
    lines.append(request_line("other model", question("echo x", model="gpt-9")))
    batch = await begin(client, lines, metadata={"order": "4711"})
    assert (batch["object"], batch["status"], batch["request_counts"]["total"]) == ("batch", "in_progress", 8)
    done = await ended(client, batch["id"])
    assert (done["status"], done["errors"], done["metadata"]) == ("completed", None, {"order": "4711"})
    assert done["request_counts"] == {"total": 8, "completed": 6, "failed": 2}
    answered, failed = await results(client, done["output_file_id"]), await results(client, done["error_file_id"])
    for number in range(6):
        response = answered[f"q{number}"]["response"]
        assert (response["status_code"], response["request_id"][:4]) == (200, "req-")
        assert response["body"]["choices"][0]["message"]["content"] == f"answer {number}"
    told = {name: line["response"]["body"]["error"]["code"] for name, line in failed.items()}
    assert told == {"wrong": "invalid_request", "other model": "model_not_found"}
    job = (await client.get(f"/jobs/{answered['q0']['response']['body']['viscpm']['jobs'][0]}")).json()
    assert job["state"] == "done"
    assert (await client.get("/v1/batches")).json()["data"][0] == done
    assert await module_service.accounting() == {"done": 6}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("url", "body", "member"),
    [
        ("/v1/images/generations", {"prompt": "red apple", "response_format": "b64_json"}, "data"),
        ("/paint", {"prompt": "red apple"}, "data"),
        ("/chat", {"question": "echo x"}, "answer"),
    ],
)
async def test_every_endpoint_is_asked(module_service: Service, url: str, body: dict[str, Any], member: str) -> None:
    done = await ended(
        module_service.client, (await begin(module_service.client, [request_line("a", body, url)]))["id"]
    )
    assert done["request_counts"]["completed"] == 1, await results(module_service.client, done["error_file_id"])
    assert (await results(module_service.client, done["output_file_id"]))["a"]["response"]["body"][member]


async def test_a_wrong_file_has_failed_at_once(module_service: Service) -> None:
    client = module_service.client
    kept = (await upload(client, b"{}\n" + jsonl([request_line("a", {"stream": True})]))).json()
    asked = {"input_file_id": kept["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    batch = (await client.post("/v1/batches", json=asked)).json()
    assert batch["status"] == "failed" and batch["failed_at"] and batch["output_file_id"] is None
    errors = {one["line"]: one["code"] for one in batch["errors"]["data"]}
    assert errors == {1: "invalid_json_line", 2: "invalid_body"}
    assert (await client.delete(f"/v1/files/{kept['id']}")).status_code == 200
    assert_error(await client.post("/v1/batches", json=asked), 404, "file_not_found", "input_file_id")
    wrong = {**asked, "endpoint": "/v1/embeddings"}
    assert_error(await client.post("/v1/batches", json=wrong), 400, "invalid_request", "endpoint")
    for answer in (await client.get("/v1/batches/batch_none"), await client.post("/v1/batches/batch_none/cancel")):
        assert_error(answer, 404, "batch_not_found")


async def test_what_a_batch_wrote_is_no_input(module_service: Service) -> None:
    client = module_service.client
    done = await ended(client, (await begin(client, [request_line("a", question("echo x"))]))["id"])
    asked = {"input_file_id": done["output_file_id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    assert_error(await client.post("/v1/batches", json=asked), 400, "invalid_request", "input_file_id")
    assert_error(await client.post(f"/v1/batches/{done['id']}/cancel"), 400, "invalid_request")


@pytest.mark.slow
async def test_a_batch_holds_a_few_jobs_and_a_question_does_not_wait_for_it(module_service: Service) -> None:
    client = module_service.client
    batch = await begin(client, [request_line(f"q{number}", question("stream 100")) for number in range(12)])

    async def slots() -> int:
        return int(await module_service.redis.zcard("{viscpm}:slots:chat"))

    async def are_some() -> bool:
        return await slots() >= 2

    await eventually(are_some)
    most = 0
    for _ in range(5):
        most = max(most, await slots())
        assert (await module_service.ask("echo now")).json()["answer"] == "now"
    counts = (await client.get(f"/v1/batches/{batch['id']}")).json()["request_counts"]
    assert most <= module_service.state.settings.batch_jobs and counts["completed"] < 12
    assert (await ended(client, batch["id"]))["request_counts"]["completed"] == 12


@pytest.mark.slow
async def test_cancelling_stops_what_waits(module_service: Service) -> None:
    client = module_service.client
    batch = await begin(client, [request_line(f"q{number}", question("stream 200")) for number in range(40)])

    async def has_begun() -> bool:
        return int(await module_service.redis.zcard("{viscpm}:slots:chat")) > 0

    await eventually(has_begun)
    assert (await client.post(f"/v1/batches/{batch['id']}/cancel")).json()["status"] == "cancelling"
    done = await ended(client, batch["id"])
    counts = done["request_counts"]
    assert done["status"] == "cancelled" and counts["completed"] + counts["failed"] == 40 and counts["failed"] > 20
    failed = await results(client, done["error_file_id"])
    assert {line["error"]["code"] for line in failed.values()} == {"batch_cancelled"}
    assert len(failed) + len(await results(client, done["output_file_id"])) == 40


@pytest.mark.slow
async def test_batches_of_others_are_404_and_a_key_says_what_they_may(module_service: Service) -> None:
    async with keyed(module_service.state.settings) as service:
        (ours, key), (theirs, _) = await service.client("acme"), await service.client("other")
        lines = [request_line(f"q{number}", question("echo x")) for number in range(3)]
        batch = await begin(ours, lines)
        calls = [theirs.get(f"/v1/batches/{batch['id']}"), theirs.post(f"/v1/batches/{batch['id']}/cancel")]
        for answer in await asyncio.gather(*calls, theirs.get("/v1/batches", params={"after": batch["id"]})):
            assert_error(answer, 404, "batch_not_found")
        asked = {"endpoint": "/v1/chat/completions", "completion_window": "24h"}
        stolen = await theirs.post("/v1/batches", json={**asked, "input_file_id": batch["input_file_id"]})
        assert_error(stolen, 404, "file_not_found", "input_file_id")
        done = await ended(ours, batch["id"])
        assert done["request_counts"]["completed"] == 3
        assert_error(await theirs.get(f"/v1/files/{done['output_file_id']}/content"), 404, "file_not_found")
        usage = (await ours.get("/usage")).json()["data"]
        assert [(day["key_id"], day["requests"]) for day in usage] == [(key.id, 3)], usage
        painter, _ = await service.client("acme", ("paint",))
        refused = await painter.post("/v1/batches", json={**asked, "input_file_id": batch["input_file_id"]})
        assert_error(refused, 403, "insufficient_scope")


@pytest.mark.slow
async def test_a_batch_of_a_revoked_key_has_failed(module_service: Service) -> None:
    settings = module_service.state.settings.model_copy(update={"batch_jobs": 0})
    async with keyed(settings) as service:
        ours, key = await service.client("acme")
        batch = await begin(ours, [request_line("a", question("echo x"))])
        await service.store.revoke(key.id)
        other, _ = await service.client("acme")
        async with serving(settings.model_copy(update={"batch_jobs": 4, "auth": "on"})):
            done = await ended(other, batch["id"])
    assert (done["status"], done["errors"]["data"][0]["code"]) == ("failed", "invalid_api_key")
    assert done["request_counts"]["completed"] == 0
