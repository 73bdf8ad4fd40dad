"""Conversations taken along, brought back and branched off."""

import base64
import hashlib
import io
from typing import Any

import pytest
from PIL import Image

from service.core.settings import Settings
from service.http.schemas.conversations import MAX_TITLE_CHARS
from service.image_output.kept_picture import png_of
from tests.service.http.test_app_gate import WordScreens
from tests.service.web import Service, assert_error, encoded, serving

TURN = {"question": "echo x", "answer": "x", "created": 1}


async def talk_of(service: Service, turns: int, **fields: Any) -> str:
    """A conversation of so many turns, `echo 1` to `echo N`."""
    talk = (await service.ask("echo 1", **fields)).json()["conversation_id"]
    for number in range(2, turns + 1):
        assert (await service.ask(f"echo {number}", conversation_id=talk)).status_code == 200
    return str(talk)


@pytest.mark.slow
async def test_what_is_taken_along_comes_back(service: Service) -> None:
    first = (await service.ask("echo a<b", image=encoded(), num_beams=1, seed=4)).json()
    path = f"/conversations/{first['conversation_id']}"
    await service.ask("echo more", conversation_id=first["conversation_id"])
    await service.client.patch(path, json={"title": "红苹果"})
    export = (await service.client.get(f"{path}/export")).json()
    assert (export["object"], export["version"], export["title"]) == ("conversation.export", 1, "红苹果")
    assert [turn["answer"] for turn in export["turns"]] == ["a<b", "more"]
    settings = export["turns"][0]["settings"]
    assert (settings["num_beams"], settings["seed"], settings["max_new_tokens"]) == (1, 4, 514)
    image = Image.open(io.BytesIO(base64.b64decode(export["image"])))
    assert (image.format, image.size) == ("PNG", (2, 2))

    imported = (await service.client.post("/conversations/import", json=export)).json()
    shown = (await service.client.get(path)).json()
    assert imported["id"] != shown["id"]
    for name in ("title", "model", "turns", "image_sha256"):
        assert imported[name] == shown[name], name
    again = (await service.client.get(f"/conversations/{imported['id']}/export")).json()
    assert {**again, "id": 0, "created": 0} == {**export, "id": 0, "created": 0}
    raw = await service.redis.lrange(f"{{viscpm}}:conversation:default:{imported['id']}:turns", 0, -1)
    assert b"a<<b" in raw[0], "the history is as if it had been answered here"
    later = (await service.ask("echo on", conversation_id=imported["id"])).json()
    assert later["image"] is True and later["answer"] == "on"
    assert (await service.client.get(path)).json()["turns"] == shown["turns"], "the first one is as it was"


@pytest.mark.slow
async def test_the_picture_comes_back_pixel_by_pixel(service: Service) -> None:
    colours = bytes(range(7, 127, 10))
    png = base64.b64encode(png_of(colours, 2)).decode()
    imported = (await service.client.post("/conversations/import", json={"turns": [TURN], "image": png})).json()
    assert imported["image_sha256"] == hashlib.sha256(colours).hexdigest()
    export = (await service.client.get(f"/conversations/{imported['id']}/export")).json()
    assert Image.open(io.BytesIO(base64.b64decode(export["image"]))).tobytes() == colours


@pytest.mark.slow
async def test_turns_that_a_first_request_brought_go_along(service: Service) -> None:
    messages = [
        {"role": "user", "content": "before"},
        {"role": "assistant", "content": "it < 1"},
        {"role": "user", "content": "echo now"},
    ]
    body = {"model": "gpt-4o", "input": messages}
    assert (await service.client.post("/v1/responses", json=body)).status_code == 200
    [listed] = (await service.client.get("/conversations")).json()["data"]
    export = (await service.client.get(f"/conversations/{listed['id']}/export")).json()
    assert export["earlier_turns"] == [{"question": "before", "answer": "it < 1"}] and export["image"] is None
    imported = (await service.client.post("/conversations/import", json=export)).json()
    again = (await service.client.get(f"/conversations/{imported['id']}/export")).json()
    assert again["earlier_turns"] == export["earlier_turns"] and again["turns"] == export["turns"]


@pytest.mark.slow
async def test_what_is_brought_is_judged_as_a_whole(settings: Settings) -> None:
    async with serving(settings, WordScreens()) as service:
        await service.ready()
        for body, stage in (
            ({"turns": [TURN, TURN | {"question": "bad"}]}, "question"),
            ({"turns": [TURN | {"answer": "bad"}, TURN]}, "answer"),
            ({"turns": [TURN], "earlier_turns": [{"question": "x", "answer": "bad"}]}, "answer"),
            ({"turns": [TURN], "image": encoded(colour=(255, 0, 0))}, "input_image"),
        ):
            refused = await service.client.post("/conversations/import", json=body)
            error = assert_error(refused, 400, "content_policy_violation", stage)
            assert error["moderation"]["flagged"] is True
        crashed = await service.client.post("/conversations/import", json={"turns": [TURN | {"answer": "crash"}]})
        assert_error(crashed, 503, "safety_unavailable")
        assert (await service.client.get("/conversations")).json()["data"] == []
        assert await service.redis.keys("{viscpm}:conversation:*") == [], "nothing of it is kept"
        fine = {"turns": [TURN], "image": encoded(colour=(1, 2, 3))}
        assert (await service.client.post("/conversations/import", json=fine)).status_code == 200


UNFIT: list[tuple[dict[str, Any], str | None, str]] = [
    ({}, "turns", "required"),
    ({"turns": [TURN] * 4}, None, "4 turns, at most 3"),
    ({"turns": [TURN | {"answer": "x" * 3000}]}, None, "3006 characters of text, at most 1600"),
    ({"turns": [TURN | {"question": "x" * 51}]}, "turns.0.question", "51 characters, at most 50"),
    ({"turns": [TURN | {"question": "  "}]}, "turns.0.question", "blanks"),
    ({"turns": [TURN | {"answer": "a\0"}]}, "turns.0.answer", "NUL"),
    ({"turns": [TURN | {"role": "system"}]}, "turns.0.role", "unknown field"),
    ({"turns": [TURN | {"settings": {"num_beams": 99}}]}, "turns.0.settings.num_beams", "8"),
    ({"turns": [TURN], "version": 2}, "version", "1"),
    ({"turns": [TURN], "title": "x" * (MAX_TITLE_CHARS + 1)}, "title", "200"),
    ({"turns": [TURN], "image": "no-base64"}, "image", "base64"),
    ({"turns": [TURN], "image": "https://example.org/a.png"}, "image", "VISCPM_FETCH_IMAGES"),
]


@pytest.mark.slow
async def test_what_cannot_be_brought_is_named(settings: Settings) -> None:
    small = {"conversation_max_turns": 3, "max_question_chars": 50}
    async with serving(settings.model_copy(update=small)) as service:
        await service.ready()
        for body, param, told in UNFIT:
            refused = await service.client.post("/conversations/import", json=body)
            assert refused.status_code == 400, refused.text
            error = refused.json()["error"]
            assert told in error["message"], error
            assert error["param"] == param, error
        assert await service.redis.keys("{viscpm}:conversation:*") == []


@pytest.mark.slow
async def test_a_branch_has_the_turns_before_and_the_same_picture(service: Service) -> None:
    talk = await talk_of(service, 3, image=encoded())
    path = f"/conversations/{talk}"
    await service.client.patch(path, json={"title": "one"})
    before = (await service.client.get(path)).json()
    branch = (await service.client.post(f"{path}/branch", json={"turn": 3})).json()
    assert [turn["question"] for turn in branch["turns"]] == ["echo 1", "echo 2"]
    assert branch["image_sha256"] == before["image_sha256"] and branch["title"] == "one"
    answer = (await service.ask("echo other", conversation_id=branch["id"])).json()
    assert answer["image"] is True and answer["vision_cached"] is True
    whole = (await service.client.post(f"{path}/branch", json={"title": "two"})).json()
    assert len(whole["turns"]) == 3 and whole["title"] == "two"
    empty = (await service.client.post(f"{path}/branch", json={"turn": 1})).json()
    assert empty["turns"] == [] and empty["image_sha256"] == before["image_sha256"]
    after = (await service.client.get(path)).json()
    assert {**after, "expires_in_s": 0} == {**before, "expires_in_s": 0}
    await service.client.delete(path)
    assert (await service.ask("echo still", conversation_id=branch["id"])).json()["image"] is True
    for turn in (0, 5):
        refused = await service.client.post(f"/conversations/{whole['id']}/branch", json={"turn": turn})
        assert_error(refused, 400, "invalid_request", "turn")
    assert_error(await service.client.post(f"{path}/branch", json={}), 404, "conversation_not_found", "conversation_id")


@pytest.mark.slow
async def test_turns_are_counted_with_those_that_are_gone(settings: Settings) -> None:
    async with serving(settings.model_copy(update={"conversation_max_turns": 2})) as service:
        await service.ready()
        talk = await talk_of(service, 4)
        refused = await service.client.post(f"/conversations/{talk}/branch", json={"turn": 2})
        error = assert_error(refused, 400, "invalid_request", "turn")
        assert "from 3 to 5" in error["message"]
        branch = (await service.client.post(f"/conversations/{talk}/branch", json={"turn": 4})).json()
        assert [turn["answer"] for turn in branch["turns"]] == ["3"] and branch["dropped_turns"] == 2
        [listed] = [
            one for one in (await service.client.get("/conversations")).json()["data"] if one["id"] == branch["id"]
        ]
        assert listed["num_turns"] == 3
