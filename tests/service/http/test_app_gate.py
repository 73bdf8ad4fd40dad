"""The gate's verdicts over HTTP, with screens that judge by a word; and what another process left behind."""

import asyncio
import re
from typing import Any

import pytest

from safety.verdict import Picture, Stage, Verdict
from service.core.settings import Settings
from tests.service.painter import colour_of
from tests.service.tree import ApiSide, eventually, log_lines
from tests.service.web import Service, assert_error, encoded, serving, sse_events

_WORDS = re.compile(r"w\d ")  # of the scripted answers; random ids may hold `w3`, but never a space


class WordScreens:
    """Blocks texts with `w3` or `bad`, red input pictures, and what is painted with an even seed."""

    are_open = False

    async def text(self, stage: Stage, text: str) -> Verdict:
        if "crash" in text:
            raise RuntimeError("crashed")
        return self._verdict(stage, "bad" in text or "w3" in text)

    async def image(self, stage: Stage, picture: Picture, language: str = "") -> Verdict:
        if picture.encoding == "rgb":
            return self._verdict(stage, picture.data[0] == 255)
        import io

        from PIL import Image

        colour = Image.open(io.BytesIO(picture.data)).getpixel((0, 0))
        return self._verdict(stage, colour[0] % 2 == 0)  # type: ignore[index]

    def _verdict(self, stage: Stage, is_blocked: bool) -> Verdict:
        return Verdict(stage, "block" if is_blocked else "pass", {"violence": float(is_blocked)}, "words")


@pytest.mark.slow
async def test_flagged_inputs_reach_no_engine(settings: Settings, worker_log: object) -> None:
    async with serving(settings, WordScreens()) as service:
        await service.ready()
        assert (await service.client.get("/health/ready")).json()["screens"] == "closed"
        before = len(log_lines(worker_log, "admit"))  # type: ignore[arg-type]
        refused = [
            await service.ask("echo bad"),
            await service.ask("echo bad", stream=True),
            await service.client.post("/chat", json={"question": "bad"}, headers={"Prefer": "respond-async"}),
            await service.ask("echo fine", image=encoded(colour=(255, 0, 0))),
            await service.client.post("/paint", json={"prompt": "bad"}),
            await service.client.post("/paint", json={"prompt": "x", "negative_prompt": "bad"}),
        ]
        stages = ["question"] * 3 + ["input_image", "prompt", "negative_prompt"]
        for response, stage in zip(refused, stages, strict=True):
            error = assert_error(response, 400, "content_policy_violation", stage)
            [result] = error["moderation"]["input"]["results"]
            assert result["flagged"] is True and result["categories"] == {"violence": True}
        crashed = await service.ask("echo crash")
        assert_error(crashed, 503, "safety_unavailable")
        assert len(log_lines(worker_log, "admit")) == before  # type: ignore[arg-type]
        assert await service.accounting() == {"refused": 6, "failed": 1}
        assert await service.metric('viscpm_safety_decisions_total{stage="question",verdict="block"}') == 3


@pytest.mark.slow
async def test_a_flagged_answer_is_filtered_on_every_way(settings: Settings) -> None:
    async with serving(settings, WordScreens()) as service:
        await service.ready()
        waited = await service.ask("stream 5")
        assert waited.status_code == 200
        answer = waited.json()
        assert answer["finish_reason"] == "content_filter" and answer["answer"] == ""
        assert answer["moderation"]["output"]["results"][0]["flagged"] is True
        streamed = await service.ask("stream 5", stream=True)
        assert not _WORDS.search(streamed.text)  # one sentence: nothing of it leaves
        assert sse_events(streamed.text)[-2][1]["finish_reason"] == "content_filter"
        for path in (f"/jobs/{answer['id']}", f"/jobs/{answer['id']}/events"):
            assert not _WORDS.search((await service.client.get(path)).text)
        assert (await service.client.get(f"/conversations/{answer['conversation_id']}")).status_code == 404
        assert await service.accounting() == {"refused": 2}


@pytest.mark.slow
async def test_verdicts_are_whole_where_they_are_asked_for_and_else_a_summary(settings: Settings) -> None:
    short = {"flagged": False, "screens": ["words"]}
    async with serving(settings, WordScreens()) as service:
        await service.ready()
        post, get = service.client.post, service.client.get
        chat, paint = {"question": "echo fine"}, {"prompt": "x", "seed": 11}
        form = {name: (None, text) for name, text in chat.items()}

        async def told(whole: bool) -> list[dict[str, Any]]:
            include: dict[str, Any] = {"include": ["moderation"]} if whole else {}
            query = {"include": "moderation"} if whole else {}
            answers = [
                (await post("/chat", json=chat | include)).json(),
                (await post("/chat", files=form | {name: (None, "moderation") for name in include})).json(),
                sse_events((await post("/chat", json=chat | include | {"stream": True})).text)[-2][1],
                (await post("/paint", json=paint | include)).json(),
                sse_events((await post("/paint", json=paint | include | {"stream": True})).text)[-2][1],
            ]
            for job_id in (answers[0]["id"], answers[3]["id"]):
                answers.append((await get(f"/jobs/{job_id}", params=query)).json()["answer"])
                answers.append(sse_events((await get(f"/jobs/{job_id}/events", params=query)).text)[-2][1])
            return [answer["moderation"] for answer in answers]

        assert await told(whole=False) == [short] * 9
        for moderation in await told(whole=True):
            assert {"flagged": moderation["flagged"], "screens": moderation["screens"]} == short
            for part in ("input", "output"):
                assert [one["category_scores"] for one in moderation[part]["results"]] == [{"violence": 0.0}]


@pytest.mark.slow
async def test_what_cannot_be_included_is_refused_by_name(settings: Settings) -> None:
    async with serving(settings, WordScreens()) as service:
        await service.ready()
        job_id = (await service.ask("echo x")).json()["id"]
        post, get = service.client.post, service.client.get
        wrong = [
            (await post("/chat", json={"question": "q", "include": ["moderation", "logprobs"]}), "include.1"),
            (await post("/chat", files={"question": (None, "q"), "include": (None, "logprobs")}), "include.0"),
            (await post("/paint", json={"prompt": "p", "include": ["logprobs"]}), "include.0"),
            (await get(f"/jobs/{job_id}", params={"include": "logprobs"}), "include.0"),
            (await get(f"/jobs/{job_id}/events", params={"include": "logprobs"}), "include.0"),
        ]
        for response, param in wrong:
            error = assert_error(response, 400, "invalid_request", param)
            assert error["message"] == f"{param}: Input should be 'moderation', got 'logprobs'"
        many = await post("/chat", json={"question": "q", "include": ["moderation"] * 9})
        assert_error(many, 400, "invalid_request", "include")
        assert (await service.ask("echo x", include=[])).json()["moderation"]["screens"] == ["words"]
        assert (await service.ask("echo x", include=None)).status_code == 200


async def test_unsafe_candidates_are_replaced_by_the_next(settings: Settings) -> None:
    async with serving(settings, WordScreens()) as service:
        await service.ready()
        body = {"prompt": "x", "seed": 10, "candidates": 4, "n": 2}
        answer = (await service.client.post("/paint", json=body)).json()
        assert [one["seed"] for one in answer["data"]] == [11, 13]
        assert all(colour_of(one["seed"])[0] % 2 for one in answer["data"])
        none = await service.client.post("/paint", json={"prompt": "x", "seed": 10, "candidates": 1})
        error = assert_error(none, 400, "content_policy_violation")
        assert error["moderation"]["output"]["results"][0]["stage"] == "candidate"


@pytest.mark.slow
async def test_a_flagged_answer_leaves_neither_polled_nor_resumed(settings: Settings) -> None:
    async with serving(settings, WordScreens()) as service:
        await service.ready()
        job = await _in_background(service, "/chat", {"question": "stream 5"})
        assert (job["state"], job["answer"]["finish_reason"]) == ("refused", "content_filter")
        assert job["answer"]["answer"] == ""
        for after in ({}, {"last-event-id": "2"}):
            events = await service.client.get(f"/jobs/{job['id']}/events", headers=after)
            assert not _WORDS.search(events.text)
        assert await service.accounting() == {"refused": 1}


@pytest.mark.slow
async def test_what_is_painted_and_flagged_leaves_on_no_way(settings: Settings) -> None:
    body = {"prompt": "paint 3", "seed": 10, "candidates": 1}
    async with serving(settings, WordScreens()) as service:
        await service.ready()
        streamed = await service.client.post("/paint", json={**body, "stream": True, "partial_images": 2})
        names = [name for name, _ in sse_events(streamed.text)]
        assert names.count("image_generation.partial_image") == 1  # the first step's; the second's is even
        assert "image_generation.completed" not in names and streamed.text.count("b64_json") == 1
        assert "content_policy_violation" in streamed.text
        for accept in ("application/json", "image/png"):
            refused = await service.client.post("/paint", json=body, headers={"Accept": accept})
            assert_error(refused, 400, "content_policy_violation")
        job = await _in_background(service, "/paint", body)
        assert (job["state"], job["error"]["code"]) == ("refused", "content_policy_violation")
        resumed = await service.client.get(f"/jobs/{job['id']}/events")
        assert "b64_json" not in resumed.text and "completed" not in resumed.text
        assert await service.accounting() == {"refused": 4}


async def _in_background(service: Service, path: str, body: dict[str, object]) -> dict[str, Any]:
    """The job of a request that did not wait, once it has ended."""
    accepted = await service.client.post(path, json=body, headers={"Prefer": "respond-async"})
    assert accepted.status_code == 202
    job: dict[str, Any] = {}

    async def has_ended() -> bool:
        job.update((await service.client.get(accepted.headers["location"])).json())
        return job["state"] in ("done", "refused", "failed", "cancelled")

    await eventually(has_ended)
    return job


async def test_what_a_dead_process_left_is_screened_and_ended_by_another(settings: Settings) -> None:
    dead = ApiSide(settings)
    await dead.producer.start()
    async with serving(settings) as service:
        await service.ready()
        from service.jobs.intents import ChatIntent
        from service.queue.conversation_record import ConversationMeta
        from tests.service.tree import make_job

        begun = ConversationMeta(created=1, model="scripted", fingerprint="test")
        intent = ChatIntent("default", 1, "scripted", "conv-left", "echo left", 7, begun)
        await dead.producer.reserve("chat", "chat-left", "default")
        await dead.producer.submit(make_job("chat", "chat-left", "stream 30"), intent)
        await dead.close()  # as a process that is gone: its heartbeat with it

        async def is_done() -> bool:
            return (await service.redis.hget("{viscpm}:job:chat-left", "state")) == b"done"

        await eventually(is_done)
        job = (await service.client.get("/jobs/chat-left")).json()
        assert job["answer"]["answer"].startswith("w0 w1 ") and job["answer"]["seed"] == 7
        turns = (await service.client.get("/conversations/conv-left")).json()["turns"]
        assert len(turns) == 1
        assert await service.accounting() == {"done": 1}


@pytest.mark.slow
@pytest.mark.parametrize("clients", [24])
async def test_many_at_once_are_each_answered_with_their_own(settings: Settings, clients: int) -> None:
    async with serving(settings) as service:
        await service.ready()
        answers = await asyncio.gather(*(service.ask(f"echo {i}", image=encoded()) for i in range(clients)))
        assert [answer.json()["answer"] for answer in answers] == [str(i) for i in range(clients)]
        assert await service.accounting() == {"done": clients}
