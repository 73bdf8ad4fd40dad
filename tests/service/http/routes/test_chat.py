"""POST /chat over HTTP, with a real worker behind it."""

import asyncio
import base64
import hashlib
import io
import json

import pytest
from PIL import Image

from service.core.settings import Settings
from service.image_input.other_formats import installed
from tests.service.tree import eventually
from tests.service.web import Service, assert_error, encoded, picture_bytes, serving, sse_events


async def test_the_public_demos_body_is_answered(service: Service) -> None:
    response = await service.client.post("/chat", json={"image": encoded(), "question": "echo 你好 world"})
    assert response.status_code == 200
    answer = response.json()
    assert answer["answer"] == "你好 world"
    assert answer["finish_reason"] == "stop"
    assert answer["object"] == "chat.answer" and answer["model"] == "scripted"
    assert answer["usage"] == {"prompt_tokens": 1, "image_tokens": 0, "completion_tokens": 0, "total_tokens": 1}
    assert answer["id"].startswith("chat-") and answer["conversation_id"].startswith("conv-")
    assert 0 <= answer["seed"] < 2**31
    assert response.headers["x-request-id"].startswith("req-")
    assert int(response.headers["openai-processing-ms"]) >= 0
    assert await service.accounting() == {"done": 1}


@pytest.mark.usefixtures("patient_scrapes")
async def test_a_second_turn_needs_no_picture_and_runs_no_vision_tower(service: Service) -> None:
    colour = (1, 2, 3)
    first = (await service.ask("echo one", image=encoded(colour=colour))).json()
    second = (await service.ask("echo two", conversation_id=first["conversation_id"])).json()
    assert second["conversation_id"] == first["conversation_id"]
    assert second["answer"] == "two" and second["id"] != first["id"]
    text = (await service.client.get("/metrics")).text
    assert 'viscpm_vision_cache_hits_total{worker="' in text
    kept = (await service.client.get(f"/conversations/{first['conversation_id']}")).json()
    assert [(turn["question"], turn["answer"]) for turn in kept["turns"]] == [("echo one", "one"), ("echo two", "two")]


@pytest.mark.slow
async def test_the_same_picture_may_be_sent_again_and_another_may_not(service: Service) -> None:
    first = (await service.ask("echo one", image=encoded())).json()
    talk = first["conversation_id"]
    assert (await service.ask("echo two", image=encoded(), conversation_id=talk)).status_code == 200
    other = await service.ask("echo three", image=encoded(colour=(0, 255, 0)), conversation_id=talk)
    assert_error(other, 400, "invalid_request", "image")
    assert len((await service.client.get(f"/conversations/{talk}")).json()["turns"]) == 2
    assert await service.accounting() == {"done": 2, "refused": 1}


@pytest.mark.slow
async def test_a_copy_of_the_picture_in_another_format_is_the_same_picture(service: Service) -> None:
    talk = (await service.ask("echo one", image=encoded())).json()["conversation_id"]
    for kind in ("BMP", "GIF", "TIFF"):
        data = picture_bytes(kind=kind)
        copy = await service.ask("echo two", image=base64.b64encode(data).decode(), conversation_id=talk)
        assert copy.status_code == (400 if kind == "TIFF" and not installed() else 200), kind


@pytest.mark.slow
async def test_a_copy_that_loses_a_little_is_the_same_picture_and_the_first_one_stays(service: Service) -> None:
    first = (await service.ask("echo one", image=encoded(64, 48))).json()
    talk, kept = first["conversation_id"], hashlib.sha256(bytes((200, 30, 40)) * 4).hexdigest()
    for kind in ("JPEG", "WEBP"):
        for size_px in ((64, 48), (32, 24), (128, 96)):
            data = base64.b64encode(picture_bytes(*size_px, kind=kind)).decode()
            alone = (await service.ask("echo alone", image=data)).json()["conversation_id"]
            sent = (await service.client.get(f"/conversations/{alone}")).json()["image_sha256"]
            copy = await service.ask("echo two", image=data, conversation_id=talk)
            assert sent != kept and copy.status_code == 200, (kind, size_px)
            assert copy.json()["vision_cached"] is True
    assert (await service.client.get(f"/conversations/{talk}")).json()["image_sha256"] == kept
    other = await service.ask("echo three", image=encoded(64, 48, (200, 50, 60)), conversation_id=talk)
    assert_error(other, 400, "invalid_request", "image")


@pytest.mark.slow
async def test_a_picture_may_join_a_talk_that_has_none(service: Service) -> None:
    first = (await service.ask("echo one")).json()
    talk = first["conversation_id"]
    assert first["image"] is False and first["usage"]["image_tokens"] == 0
    assert (await service.ask("reject", image=encoded(), conversation_id=talk)).status_code == 400
    assert (await service.client.get(f"/conversations/{talk}")).json()["image_sha256"] is None
    joined = (await service.ask("echo two", image=encoded(), conversation_id=talk)).json()
    assert joined["image"] is True and joined["answer"] == "two" and joined["conversation_id"] == talk
    kept = (await service.client.get(f"/conversations/{talk}")).json()
    assert kept["image_sha256"] == hashlib.sha256(bytes((200, 30, 40)) * 4).hexdigest()
    assert [turn["answer"] for turn in kept["turns"]] == ["one", "two"]
    later = (await service.ask("echo three", conversation_id=talk)).json()
    assert later["image"] is True and later["vision_cached"] is True
    assert (await service.ask("echo four", image=encoded(), conversation_id=talk)).status_code == 200
    other = await service.ask("echo five", image=encoded(colour=(0, 255, 0)), conversation_id=talk)
    assert_error(other, 400, "invalid_request", "image")


async def test_a_transparent_picture_is_the_composed_one_and_raw_drops_its_alpha(service: Service) -> None:
    """The conversation keeps the digest of what screens and model were shown."""
    target = io.BytesIO()
    Image.new("RGBA", (8, 8), (0, 255, 0, 0)).save(target, "PNG")
    hidden = base64.b64encode(target.getvalue()).decode()
    for fields, shown in (({}, (255, 255, 255)), ({"raw": True}, (0, 255, 0))):
        talk = (await service.ask("echo one", image=hidden, **fields)).json()["conversation_id"]
        kept = (await service.client.get(f"/conversations/{talk}")).json()
        assert kept["image_sha256"] == hashlib.sha256(bytes(shown) * 4).hexdigest()


@pytest.mark.slow
async def test_a_stream_sends_pieces_then_the_whole_answer_then_done(service: Service) -> None:
    response = await service.ask("stream 5", image=encoded(), stream=True)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["x-accel-buffering"] == "no"
    events = [data for _, data in sse_events(response.text)]
    assert events[-1] == "[DONE]"
    begin, *pieces, answer = events[:-1]
    assert begin["delta"] == "" and begin["conversation_id"] == answer["conversation_id"]
    assert [piece["delta"] for piece in pieces] == [f"w{i} " for i in range(5)]
    assert [piece["offset"] for piece in pieces] == [0, 3, 6, 9, 12]
    assert answer["answer"] == "w0 w1 w2 w3 w4 " and answer["finish_reason"] == "stop"
    assert answer["usage"]["completion_tokens"] == 5
    assert {event["id"] for event in events[:-1]} == {answer["id"]}
    assert await service.metric('viscpm_time_to_first_token_seconds_count{model="chat"}') == 1
    assert await service.accounting() == {"done": 1}


async def test_a_stream_of_an_answer_without_deltas_sends_it_as_one_piece(service: Service) -> None:
    response = await service.ask("echo all at once", stream=True)
    events = [data for _, data in sse_events(response.text)]
    assert [event["delta"] for event in events[:-2]] == ["", "all at once"]


async def test_an_error_after_the_200_is_an_event_before_done(service: Service) -> None:
    response = await service.ask("raise", stream=True)
    assert response.status_code == 200
    *_, error, done = [data for _, data in sse_events(response.text)]
    assert done == "[DONE]"
    assert error["error"]["type"] == "server_error" and error["error"]["job_id"].startswith("chat-")
    assert await service.accounting() == {"failed": 1}


@pytest.mark.slow
async def test_a_job_that_fails_tells_its_id_and_an_engines_refusal_is_the_clients_error(service: Service) -> None:
    failed = (await service.ask("raise")).json()["error"]
    assert failed["job_id"].startswith("chat-")
    assert_error(await service.ask("reject"), 400, "context_length_exceeded")
    assert await service.accounting() == {"failed": 1, "refused": 1}


@pytest.mark.slow
async def test_two_turns_at_once_on_one_conversation_lose_nothing(service: Service) -> None:
    talk = (await service.ask("echo start")).json()["conversation_id"]
    slow = asyncio.create_task(service.ask("stream 300", conversation_id=talk))
    await eventually(lambda: service.redis.exists(f"{{viscpm}}:conversation:default:{talk}:busy"))
    busy = await service.ask("echo meanwhile", conversation_id=talk)
    assert_error(busy, 409, "conversation_busy", "conversation_id")
    assert int(busy.headers["retry-after"]) >= 1
    assert (await slow).status_code == 200
    assert (await service.ask("echo after", conversation_id=talk)).status_code == 200
    turns = (await service.client.get(f"/conversations/{talk}")).json()["turns"]
    assert [turn["question"] for turn in turns] == ["echo start", "stream 300", "echo after"]
    assert await service.accounting() == {"done": 3, "refused": 1}


async def test_a_conversation_is_free_again_after_a_failed_turn(service: Service) -> None:
    talk = (await service.ask("echo start")).json()["conversation_id"]
    assert (await service.ask("raise", conversation_id=talk)).status_code == 500
    assert (await service.ask("echo more", conversation_id=talk)).status_code == 200
    assert len((await service.client.get(f"/conversations/{talk}")).json()["turns"]) == 2


@pytest.mark.slow
async def test_a_job_past_its_deadline_is_cancelled_and_told(settings: Settings) -> None:
    async with serving(settings.model_copy(update={"chat_deadline_s": 0.3})) as service:
        await service.ready()
        assert_error(await service.ask("stream 100000"), 504, "deadline_exceeded")
        assert await service.accounting() == {"cancelled": 1}


@pytest.mark.slow
async def test_a_client_that_reads_slowly_holds_up_nobody(service: Service) -> None:
    host, port = service.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
    body = json.dumps({"question": "stream 400", "stream": True}).encode()
    writer.write(_request_head(len(body)) + body)
    await reader.read(1)
    began_s = asyncio.get_running_loop().time()
    assert (await service.ask("echo quick")).status_code == 200
    assert asyncio.get_running_loop().time() - began_s < 2
    # its job ends although its client has read one byte
    await eventually(lambda: _has_ended(service, "done:chat", 2))
    rest = await reader.read(-1) if await reader.read(200) else b""
    assert b"[DONE]" in rest
    writer.close()
    assert await service.accounting() == {"done": 2}


async def test_respond_async_gives_an_id_to_ask_for(service: Service) -> None:
    asked = {"question": "stream 20", "stream": True}
    response = await service.client.post("/chat", json=asked, headers={"Prefer": "respond-async"})
    assert response.status_code == 202
    assert response.headers["preference-applied"] == "respond-async"
    job = response.json()
    assert response.headers["location"] == f"/jobs/{job['id']}" and job["state"] == "queued"

    async def is_done() -> bool:
        return (await service.client.get(f"/jobs/{job['id']}")).json()["state"] == "done"

    await eventually(is_done)
    answer = (await service.client.get(f"/jobs/{job['id']}")).json()["answer"]
    assert answer["answer"].startswith("w0 w1 ") and answer["id"] == job["id"]
    assert (await service.client.get(f"/conversations/{answer['conversation_id']}")).status_code == 200
    assert await service.accounting() == {"done": 1}


async def test_seeds_are_told_and_a_given_one_is_used(service: Service) -> None:
    drawn = {(await service.ask("echo a")).json()["seed"] for _ in range(3)}
    assert len(drawn) > 1
    assert (await service.ask("echo a", seed=12345)).json()["seed"] == 12345


def _request_head(body_bytes: int) -> bytes:
    return (
        f"POST /chat HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {body_bytes}\r\n"
        "Connection: close\r\n\r\n"
    ).encode()


async def _has_ended(service: Service, name: str, count: int) -> bool:
    return int(await service.redis.hget("{viscpm}:accounting", name) or 0) == count
