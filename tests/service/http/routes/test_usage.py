"""GET /usage: of the key that asks, of the tenant's keys for an admin, and of nobody else."""

from datetime import UTC, datetime, timedelta

import pytest

from service.core.settings import Settings
from tests.service.http.access.keyed import keyed
from tests.service.web import Service, assert_error


@pytest.mark.slow
async def test_each_key_sees_its_own_and_an_admin_its_tenants(settings: Settings) -> None:
    async with keyed(settings) as service:
        one, first = await service.client("acme")
        two, second = await service.client("acme")
        admin, third = await service.client("acme", scopes=("admin",))
        foreign, _ = await service.client("other", scopes=("admin",))
        answer = (await one.post("/chat", json={"question": "stream 4"})).json()
        await two.post("/paint", json={"prompt": "x", "n": 2, "num_inference_steps": 5})
        today = datetime.now(UTC).date()
        day = {"day": today.isoformat(), "key_id": first.id, "name": "app", "requests": 1}
        [told] = (await one.get("/usage")).json()["data"]
        assert told == day | {
            "prompt_tokens": answer["usage"]["prompt_tokens"],
            "completion_tokens": answer["usage"]["completion_tokens"],
            "pictures": 0,
            "steps": 0,
        }
        both = (await admin.get("/usage?days=2")).json()
        assert both["object"] == "usage"
        assert {row["key_id"]: (row["pictures"], row["steps"]) for row in both["data"]} == {
            first.id: (0, 0),
            second.id: (2, 10),
        }
        assert third.id not in {row["key_id"] for row in both["data"]}
        assert (await foreign.get("/usage")).json()["data"] == []
        yesterday = (today - timedelta(days=1)).isoformat()
        assert (await admin.get(f"/usage?until={yesterday}")).json()["data"] == []
        for wrong in ("soon", "", "20261130", "2026-W05-1", "0000-01-01"):
            assert_error(await one.get(f"/usage?until={wrong}"), 400, "invalid_request", "until")
        assert (await one.get("/usage?until=0001-01-05")).json()["data"] == []  # there are no 30 days before
        for days in (0, 93):
            assert_error(await one.get(f"/usage?days={days}"), 400, "invalid_request", "days")


async def test_a_service_without_keys_tells_no_days(service: Service) -> None:
    await service.ask("echo x")
    assert (await service.client.get("/usage")).json() == {"data": [], "object": "usage"}
