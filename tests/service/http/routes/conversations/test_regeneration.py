"""The last question answered anew: what takes the old answer's place, and when it stays."""

import asyncio
from typing import Any

import pytest

from service.core.settings import Settings
from tests.service.http.test_app_gate import WordScreens
from tests.service.web import Service, assert_error, encoded, serving, sse_events


async def brought(service: Service, *questions: str) -> str:
    """A conversation whose questions were all answered `old`."""
    turns = [{"question": question, "answer": "old", "created": 1} for question in questions]
    response = await service.client.post("/conversations/import", json={"turns": turns})
    assert response.status_code == 200, response.text
    return str(response.json()["id"])


async def turns_of(service: Service, talk: str) -> list[tuple[str, str]]:
    shown = (await service.client.get(f"/conversations/{talk}")).json()
    return [(turn["question"], turn["answer"]) for turn in shown["turns"]]


@pytest.mark.slow
async def test_the_new_answer_takes_the_old_ones_place(service: Service) -> None:
    talk = await brought(service, "echo first", "stream 3")
    path = f"/conversations/{talk}/regenerate"
    answer = (await service.client.post(path, json={"do_sample": True, "seed": 8})).json()
    assert (answer["conversation_id"], answer["answer"], answer["seed"]) == (talk, "w0 w1 w2 ", 8)
    assert await turns_of(service, talk) == [("echo first", "old"), ("stream 3", "w0 w1 w2 ")]
    exported = (await service.client.get(f"/conversations/{talk}/export")).json()
    settings = exported["turns"][1]["settings"]
    assert (settings["do_sample"], settings["num_beams"], settings["seed"]) == (True, 1, 8)
    assert exported["turns"][0]["settings"] is None, "of the old one nobody told them"
    streamed = sse_events((await service.client.post(path, json={"stream": True})).text)
    assert [event["delta"] for _, event in streamed[1:-2]] == ["w0 ", "w1 ", "w2 "]
    assert streamed[-2][1]["conversation_id"] == talk and streamed[-1][1] == "[DONE]"
    assert len(await turns_of(service, talk)) == 2
    sizes = await service.redis.hvals("{viscpm}:conversation_sizes")
    assert int(await service.redis.get("{viscpm}:conversation_bytes")) == sum(map(int, sizes))
    assert await service.accounting() == {"done": 2}


@pytest.mark.slow
async def test_a_picture_stays_with_its_conversation(service: Service) -> None:
    asked = (await service.ask("echo red", image=encoded())).json()
    path = f"/conversations/{asked['conversation_id']}/regenerate"
    answer = (await service.client.post(path, json={"num_beams": 1})).json()
    assert answer["image"] is True and answer["vision_cached"] is True
    kept = await service.client.get(f"/conversations/{asked['conversation_id']}/export")
    assert kept.json()["image"] and len(kept.json()["turns"]) == 1


@pytest.mark.slow
async def test_the_old_answer_stays_where_there_is_no_new_one(settings: Settings) -> None:
    async with serving(settings, WordScreens()) as service:
        await service.ready()
        broken, blocked = await brought(service, "raise"), await brought(service, "stream 5")
        failed = await service.client.post(f"/conversations/{broken}/regenerate", json={})
        assert failed.status_code == 500, failed.text
        filtered = await service.client.post(f"/conversations/{blocked}/regenerate", json={})
        assert filtered.json()["finish_reason"] == "content_filter"
        assert await turns_of(service, broken) == [("raise", "old")]
        assert await turns_of(service, blocked) == [("stream 5", "old")]
        again = await service.ask("echo on", conversation_id=broken)
        assert again.status_code == 200, "and nothing is locked"


@pytest.mark.slow
async def test_one_at_a_time(service: Service) -> None:
    talk = await brought(service, "stream 200")
    path = f"/conversations/{talk}/regenerate"
    first = asyncio.create_task(service.client.post(path, json={}))
    job = b""
    while not job:
        await asyncio.sleep(0.01)
        job = await service.redis.get(f"{{viscpm}}:conversation:default:{talk}:busy") or b""
    assert_error(await service.client.post(path, json={}), 409, "conversation_busy", "conversation_id")
    assert_error(await service.ask("echo x", conversation_id=talk), 409, "conversation_busy", "conversation_id")
    assert (await first).status_code == 200
    assert len(await turns_of(service, talk)) == 1


@pytest.mark.slow
async def test_a_request_sent_twice_is_answered_once(service: Service) -> None:
    talk, key = await brought(service, "stream 2"), {"Idempotency-Key": "again"}
    path = f"/conversations/{talk}/regenerate"
    first = await service.client.post(path, json={"do_sample": True}, headers=key)
    again = await service.client.post(path, json={"do_sample": True}, headers=key)
    assert again.json() == first.json() and again.headers["idempotent-replayed"] == "true"
    other = await service.client.post(path, json={}, headers=key)
    assert_error(other, 422, "idempotency_key_reused", "Idempotency-Key")
    assert await service.accounting() == {"done": 1}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "param"),
    [({"question": "echo x"}, "question"), ({"image": "x"}, "image"), ({"num_beams": 9}, "num_beams")],
)
async def test_what_it_does_not_take(service: Service, body: dict[str, Any], param: str) -> None:
    talk = await brought(service, "echo x")
    refused = await service.client.post(f"/conversations/{talk}/regenerate", json=body)
    assert_error(refused, 400, "invalid_request", param)


@pytest.mark.slow
async def test_where_nothing_was_asked_nothing_is_answered(service: Service) -> None:
    talk = await brought(service)
    refused = await service.client.post(f"/conversations/{talk}/regenerate", json={})
    assert_error(refused, 400, "invalid_request", "conversation_id")
    unknown = await service.client.post("/conversations/conv-no/regenerate", json={})
    assert_error(unknown, 404, "conversation_not_found", "conversation_id")
