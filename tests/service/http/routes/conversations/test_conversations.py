"""Conversations listed, looked at, renamed and forgotten over HTTP."""

import pytest

from service.core.settings import Settings
from tests.service.http.access.keyed import keyed
from tests.service.tree import eventually
from tests.service.web import Service, assert_error, encoded, serving, sse_events


@pytest.mark.slow
async def test_a_conversation_is_shown_and_forgotten(service: Service) -> None:
    answer = (await service.ask("echo a<b", image=encoded())).json()
    path = f"/conversations/{answer['conversation_id']}"
    shown = (await service.client.get(path)).json()
    assert shown["object"] == "conversation" and shown["id"] == answer["conversation_id"]
    assert [turn["answer"] for turn in shown["turns"]] == ["a<b"]
    assert len(shown["image_sha256"]) == 64 and 0 < shown["expires_in_s"] <= 86_400
    deleted = await service.client.delete(path)
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert [key async for key in service.redis.scan_iter("{viscpm}:conversation:*")] == []
    for method in ("GET", "DELETE"):
        assert_error(await service.client.request(method, path), 404, "conversation_not_found", "conversation_id")
    response = await service.ask("echo more", conversation_id=answer["conversation_id"])
    assert_error(response, 404, "conversation_not_found", "conversation_id")
    assert await service.accounting() == {"done": 1, "refused": 1}


@pytest.mark.slow
async def test_a_conversation_deleted_while_it_is_answered_stays_deleted(service: Service) -> None:
    talk = (await service.ask("echo a")).json()["conversation_id"]
    headers = {"Prefer": "respond-async"}
    asked = {"question": "stream 100", "conversation_id": talk}
    job = (await service.client.post("/chat", json=asked, headers=headers)).json()
    assert (await service.client.delete(f"/conversations/{talk}")).status_code == 204

    async def is_done() -> bool:
        return (await service.client.get(f"/jobs/{job['id']}")).json()["state"] == "done"

    await eventually(is_done)
    assert (await service.client.get(f"/conversations/{talk}")).status_code == 404
    assert [key async for key in service.redis.scan_iter("{viscpm}:conversation:*")] == []


@pytest.mark.slow
async def test_turns_beyond_the_limit_drop_the_oldest(service: Service) -> None:
    talk = (await service.ask("echo 0")).json()["conversation_id"]
    key = f"{{viscpm}}:conversation:default:{talk}:turns"
    turn = await service.redis.lindex(key, 0)
    await service.redis.rpush(key, *[turn] * 199)
    assert (await service.ask("echo 200", conversation_id=talk)).status_code == 200
    shown = (await service.client.get(f"/conversations/{talk}")).json()
    assert len(shown["turns"]) == 200 and shown["turns"][-1]["answer"] == "200"
    assert shown["dropped_turns"] == 1


@pytest.mark.slow
async def test_turns_that_are_gone_are_told_and_forbidden_by_strict_length(settings: Settings) -> None:
    async with serving(settings.model_copy(update={"conversation_max_turns": 3})) as service:
        await service.ready()
        answer = (await service.ask("echo 0", image=encoded(), strict_length=True)).json()
        talk = answer["conversation_id"]
        dropped = [answer["dropped_turns"]]
        for i in range(1, 3):
            answer = (await service.ask(f"echo {i}", conversation_id=talk, strict_length=True)).json()
            dropped.append(answer["dropped_turns"])
        refused = await service.ask("echo 3", conversation_id=talk, strict_length=True)
        error = assert_error(refused, 400, "context_length_exceeded", "conversation_id")
        assert "4 turns" in error["message"] and "3 are kept" in error["message"]
        for i in range(3, 6):
            dropped.append((await service.ask(f"echo {i}", conversation_id=talk)).json()["dropped_turns"])
        assert dropped == [0, 0, 0, 0, 1, 2]
        shown = (await service.client.get(f"/conversations/{talk}")).json()
        assert [turn["answer"] for turn in shown["turns"]] == ["3", "4", "5"] and shown["dropped_turns"] == 3
        streamed = await service.ask("echo 6", conversation_id=talk, stream=True)
        assert sse_events(streamed.text)[-2][1]["dropped_turns"] == 3
        refused = await service.ask("echo 7", conversation_id=talk, strict_length=True)
        assert_error(refused, 400, "context_length_exceeded", "conversation_id")
        assert (await service.ask("echo 7", conversation_id=talk)).status_code == 200, "nobody holds the conversation"


@pytest.mark.slow
async def test_an_id_that_is_none_names_no_key_of_another_conversation(service: Service) -> None:
    talk = (await service.ask("echo a", image=encoded())).json()["conversation_id"]
    before = sorted([key async for key in service.redis.scan_iter("{viscpm}:conversation:*")])
    for part in ("turns", "pixels", "busy"):
        path = f"/conversations/{talk}:{part}"
        for method in ("GET", "DELETE"):
            assert_error(await service.client.request(method, path), 404, "conversation_not_found", "conversation_id")
        asked = await service.ask("echo b", conversation_id=f"{talk}:{part}")
        assert_error(asked, 404, "conversation_not_found", "conversation_id")
    assert sorted([key async for key in service.redis.scan_iter("{viscpm}:conversation:*")]) == before


@pytest.mark.slow
async def test_conversations_are_listed_page_by_page_those_used_last_first(service: Service) -> None:
    assert (await service.client.get("/conversations")).json() == {
        "data": [],
        "has_more": False,
        "next_cursor": None,
        "object": "list",
    }
    talks = [(await service.ask(f"echo {number}")).json()["conversation_id"] for number in range(4)]
    talks.append((await service.ask("echo 4", image=encoded())).json()["conversation_id"])
    await service.ask("echo again", conversation_id=talks[1])
    await service.client.patch(f"/conversations/{talks[0]}", json={"title": "the first"})
    order = [talks[1], *[talks[number] for number in (4, 3, 2, 0)]]
    pages, cursor = [], ""
    for _ in range(3):
        page = (await service.client.get("/conversations", params={"limit": 2, "cursor": cursor})).json()
        pages.append(page)
        cursor = page["next_cursor"]
    assert [one["id"] for page in pages for one in page["data"]] == order and cursor is None
    assert [page["has_more"] for page in pages] == [True, True, False]
    listed = {one["id"]: one for page in pages for one in page["data"]}
    assert [listed[talk]["num_turns"] for talk in order] == [2, 1, 1, 1, 1]
    assert [listed[talk]["has_image"] for talk in order] == [False, True, False, False, False]
    assert listed[talks[0]]["title"] == "the first" and listed[talks[1]]["title"] is None
    assert all(abs(one["last_used"] - one["created"]) < 60 for one in listed.values())
    await service.client.delete(f"/conversations/{talks[3]}")
    left = (await service.client.get("/conversations")).json()["data"]
    assert [one["id"] for one in left] == [talk for talk in order if talk != talks[3]]


@pytest.mark.slow
async def test_a_cursor_that_is_none_is_refused(service: Service) -> None:
    for cursor in ("x", "1", "1.", ".a", "-1.a", "1.a b"):
        refused = await service.client.get("/conversations", params={"cursor": cursor})
        assert_error(refused, 400, "invalid_request", "cursor")
    for limit in (0, 101):
        assert (await service.client.get("/conversations", params={"limit": limit})).status_code == 400


@pytest.mark.slow
async def test_a_title_is_given_and_taken_away(service: Service) -> None:
    talk = (await service.ask("echo a")).json()["conversation_id"]
    path = f"/conversations/{talk}"
    for title in ("苹果", "x" * 200, None):
        renamed = await service.client.patch(path, json={"title": title})
        assert renamed.json()["title"] == title and len(renamed.json()["turns"]) == 1
        assert (await service.client.get(path)).json()["title"] == title
    for body in ({}, {"title": ""}, {"title": "x" * 201}, {"title": " "}, {"title": 7}):
        assert_error(await service.client.patch(path, json=body), 400, "invalid_request", "title")
    unknown = await service.client.patch("/conversations/conv-no", json={"title": "x"})
    assert_error(unknown, 404, "conversation_not_found", "conversation_id")
    assert [key async for key in service.redis.scan_iter("{viscpm}:*conv-no*")] == []


@pytest.mark.slow
async def test_what_is_forgotten_leaves_no_answer_behind(service: Service) -> None:
    first = (await service.ask("echo secret", image=encoded())).json()
    talk = first["conversation_id"]
    second = (await service.ask("echo secret two", conversation_id=talk)).json()
    third = (await service.client.post(f"/conversations/{talk}/regenerate", json={})).json()
    other = (await service.ask("echo other")).json()
    assert len({first["id"], second["id"], third["id"]}) == 3
    await service.client.delete(f"/conversations/{talk}")
    for job in (first, second, third):
        assert_error(await service.client.get(f"/jobs/{job['id']}"), 404, "job_not_found")
    assert (await service.client.get(f"/jobs/{other['id']}")).json()["answer"] == other
    for key in [key async for key in service.redis.scan_iter("{viscpm}:*")]:
        assert talk not in key.decode()
        kind = await service.redis.type(key)
        if kind == b"hash":
            assert not any(b"secret" in value for value in await service.redis.hvals(key)), key


@pytest.mark.slow
async def test_nothing_of_it_is_anothers(settings: Settings) -> None:
    async with keyed(settings) as keyed_service:
        owner, _ = await keyed_service.client("owner")
        stranger, _ = await keyed_service.client("stranger")
        talk = (await owner.post("/chat", json={"question": "echo mine", "image": encoded()})).json()["conversation_id"]
        path = f"/conversations/{talk}"
        attempts = [
            await stranger.get(path),
            await stranger.patch(path, json={"title": "mine"}),
            await stranger.get(f"{path}/export"),
            await stranger.post(f"{path}/branch", json={}),
            await stranger.post(f"{path}/regenerate", json={}),
            await stranger.post(f"{path}/regenerate", json={"stream": True}),
            await stranger.delete(path),
        ]
        for guess in (f"owner:{talk}", f"..%2F{talk}", talk.swapcase()):
            attempts.append(await stranger.get(f"/conversations/{guess}/export"))
            attempts.append(await stranger.post(f"/conversations/{guess}/branch", json={}))
        assert {one.status_code for one in attempts} == {404}
        assert (await stranger.get("/conversations")).json()["data"] == []
        [listed] = (await owner.get("/conversations")).json()["data"]
        assert (await stranger.get("/conversations", params={"cursor": f"99999999999999.{talk}"})).json()["data"] == []
        assert listed["id"] == talk and listed["title"] is None
        assert len((await owner.get(path)).json()["turns"]) == 1
        painter, _ = await keyed_service.client("owner", scopes=("paint",))
        assert_error(await painter.get("/conversations"), 403, "insufficient_scope")
