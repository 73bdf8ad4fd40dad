"""Conversations looked at and forgotten over HTTP."""

from service.core.settings import Settings
from tests.service.tree import eventually
from tests.service.web import Service, assert_error, encoded, serving, sse_events


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


async def test_turns_beyond_the_limit_drop_the_oldest(service: Service) -> None:
    talk = (await service.ask("echo 0")).json()["conversation_id"]
    key = f"{{viscpm}}:conversation:default:{talk}:turns"
    turn = await service.redis.lindex(key, 0)
    await service.redis.rpush(key, *[turn] * 199)
    assert (await service.ask("echo 200", conversation_id=talk)).status_code == 200
    shown = (await service.client.get(f"/conversations/{talk}")).json()
    assert len(shown["turns"]) == 200 and shown["turns"][-1]["answer"] == "200"
    assert shown["dropped_turns"] == 1


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
