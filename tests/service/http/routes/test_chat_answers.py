"""One question, told in every way, and again to a request that has its Idempotency-Key."""

from typing import Any

import pytest

from tests.service.tree import eventually
from tests.service.web import Service, sse_events


async def test_whole_streamed_and_later_the_answer_is_the_same(service: Service) -> None:
    whole = (await service.ask("stream 3", seed=5)).json()
    events = sse_events((await service.ask("stream 3", seed=5, stream=True)).text)
    assert "".join(event["delta"] for _, event in events[:-2]) == whole["answer"] == "w0 w1 w2 "
    accepted = await service.client.post("/chat?async=true", json={"question": "stream 3", "seed": 5})
    assert accepted.status_code == 202 and accepted.headers["location"] == f"/jobs/{accepted.json()['id']}"
    later: dict[str, Any] = {}

    async def is_done() -> bool:
        later.update((await service.client.get(accepted.headers["location"])).json())
        return bool(later["state"] == "done")

    await eventually(is_done)
    told = [whole, events[-2][1], later["answer"]]
    assert [(one["answer"], one["seed"], one["finish_reason"]) for one in told] == [("w0 w1 w2 ", 5, "stop")] * 3


@pytest.mark.slow
async def test_an_earlier_request_is_told_as_the_later_one_wants_it(service: Service) -> None:
    key, body = {"Idempotency-Key": "one"}, {"question": "stream 2", "stream": True}
    first = sse_events((await service.client.post("/chat", json=body, headers=key)).text)[-2][1]
    again = await service.client.post("/chat", json=body, headers=key)
    assert again.headers["idempotent-replayed"] == "true"
    assert sse_events(again.text)[-2][1] == first
    asynchronous = await service.client.post("/chat", json=body, headers=key | {"Prefer": "respond-async"})
    assert asynchronous.status_code == 202 and asynchronous.json()["id"] == first["id"]
