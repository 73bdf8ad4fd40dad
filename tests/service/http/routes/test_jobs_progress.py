"""GET /jobs/{id} while it waits and runs, and GET /jobs, page by page."""

from typing import Any

import pytest

from service.core.settings import Settings
from tests.service.http.access.keyed import keyed
from tests.service.tree import eventually
from tests.service.web import Service, assert_error


async def begin(service: Service, question: str, path: str = "/chat?async=true") -> str:
    field = "prompt" if path.startswith("/paint") else "question"
    accepted = await service.client.post(path, json={field: question})
    assert accepted.status_code == 202 and accepted.headers["preference-applied"] == "respond-async"
    job_id: str = accepted.json()["id"]
    assert accepted.headers["location"] == f"/jobs/{job_id}"
    return job_id


async def look(service: Service, job_id: str) -> dict[str, Any]:
    told: dict[str, Any] = (await service.client.get(f"/jobs/{job_id}")).json()
    return told


@pytest.mark.slow
async def test_a_job_tells_its_place_and_time(service: Service) -> None:
    await service.ask("stream 30")  # a run to measure by
    running = [await begin(service, "stream 100000") for _ in range(4)]  # all that the worker takes

    async def are_running() -> bool:
        return all([(await look(service, job_id))["state"] == "running" for job_id in running])

    await eventually(are_running)
    waiting = [await begin(service, "echo x") for _ in range(3)]
    told = [await look(service, job_id) for job_id in waiting]
    assert [(one["state"], one["position"]) for one in told] == [("queued", 1), ("queued", 2), ("queued", 3)]
    etas_s = [one["eta_s"] for one in told]
    assert etas_s == sorted(etas_s) and etas_s[0] > 0
    assert (await look(service, running[0]))["position"] is None
    await service.client.delete(f"/jobs/{waiting[0]}")
    assert (await look(service, waiting[2]))["position"] == 2
    for job_id in waiting + running:
        await service.client.delete(f"/jobs/{job_id}")
    ended = await look(service, waiting[2])
    assert (ended["state"], ended["position"], ended["eta_s"]) == ("cancelled", None, None)


@pytest.mark.slow
async def test_a_batch_job_waits_for_those_that_come_after_it(service: Service) -> None:
    running = [await begin(service, "stream 100000") for _ in range(4)]
    batch = (await service.client.post("/chat?async=true", json={"question": "echo b", "priority": "batch"})).json()[
        "id"
    ]
    interactive = await begin(service, "echo i")
    assert (await look(service, interactive))["position"] == 1
    assert (await look(service, batch))["position"] == 2
    for job_id in running:
        await service.client.delete(f"/jobs/{job_id}")

    async def is_done() -> bool:
        return (await look(service, batch))["state"] == "done"

    await eventually(is_done)
    for path, body in (("/chat", {"question": "x"}), ("/paint", {"prompt": "x"})):
        refused = await service.client.post(path, json=body | {"priority": "urgent"})
        assert_error(refused, 400, "invalid_request", "priority")
    assert (await service.client.post("/paint", json={"prompt": "x", "priority": "batch"})).status_code == 200


@pytest.mark.slow
async def test_a_painting_tells_its_steps(service: Service) -> None:
    job_id = await begin(service, "paint 400", "/paint?async=1")
    seen: list[dict[str, Any]] = []

    async def has_stepped() -> bool:
        seen.append(await look(service, job_id))
        return bool(seen[-1]["step"]) or seen[-1]["state"] == "done"

    await eventually(has_stepped)
    assert seen[-1]["step"] <= seen[-1]["total_steps"] and seen[-1]["eta_s"] >= 0
    await service.client.delete(f"/jobs/{job_id}")


@pytest.mark.slow
async def test_pages(service: Service) -> None:
    asked = [(await service.ask(f"echo {number}")).json()["id"] for number in range(3)]
    asked.append((await service.client.post("/paint", json={"prompt": "x"})).json()["id"])
    first = (await service.client.get("/jobs?limit=3")).json()
    assert first["object"] == "list" and first["has_more"] is True and len(first["data"]) == 3
    rest = (await service.client.get(f"/jobs?limit=3&after={first['last_id']}")).json()
    assert rest["has_more"] is False
    jobs = first["data"] + rest["data"]
    assert [job["id"] for job in jobs] == asked[::-1]
    assert {job["state"] for job in jobs} == {"done"} and jobs[0]["kind"] == "paint" and "answer" not in jobs[0]
    assert_error(await service.client.get("/jobs?after=nope"), 404, "job_not_found")
    for query in ("limit=0", "limit=101", "limit=x"):
        assert_error(await service.client.get(f"/jobs?{query}"), 400, "invalid_request", "limit")
    empty = (await service.client.get(f"/jobs?after={asked[0]}")).json()
    assert (empty["data"], empty["has_more"], empty["last_id"]) == ([], False, None)


async def test_a_list_is_its_tenants(settings: Settings) -> None:
    async with keyed(settings) as service:
        ours, _ = await service.client("ours")
        theirs, _ = await service.client("theirs")
        answer = (await ours.post("/chat", json={"question": "echo x"})).json()
        assert [job["id"] for job in (await ours.get("/jobs")).json()["data"]] == [answer["id"]]
        assert (await theirs.get("/jobs")).json()["data"] == []
        assert_error(await theirs.get(f"/jobs?after={answer['id']}"), 404, "job_not_found")
