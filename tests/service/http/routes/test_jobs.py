"""/jobs: answers that can be asked for again."""

import re
from collections.abc import AsyncIterator

import httpx
import pytest

from service.core.settings import Settings
from tests.service.tree import eventually
from tests.service.web import Service, assert_error, encoded, serving, sse_events

ID = re.compile(r"^id: (\d+)$", re.MULTILINE)


@pytest.mark.slow
async def test_a_finished_job_gives_the_same_answer_again(service: Service) -> None:
    answer = (await service.ask("echo once", image=encoded())).json()
    job = (await service.client.get(f"/jobs/{answer['id']}")).json()
    assert (job["object"], job["kind"], job["state"]) == ("job", "chat", "done")
    assert job["answer"] == answer and job["error"] is None


async def test_a_failed_job_tells_its_error(service: Service) -> None:
    failed = (await service.ask("raise")).json()["error"]
    job = (await service.client.get(f"/jobs/{failed['job_id']}")).json()
    assert job["state"] == "failed" and job["answer"] is None
    assert job["error"] == failed


@pytest.mark.slow
async def test_a_stream_can_be_taken_up_again(service: Service) -> None:
    answer = (await service.ask("stream 5")).json()
    for after, expected in ((None, answer["answer"]), ("6", answer["answer"][6:])):
        headers = {} if after is None else {"Last-Event-ID": after}
        response = await service.client.get(f"/jobs/{answer['id']}/events", headers=headers)
        *events, done = [data for _, data in sse_events(response.text)]
        assert done == "[DONE]" and events[-1] == answer
        assert events[0]["conversation_id"] == answer["conversation_id"]
        assert "".join(event["delta"] for event in events[:-1]) == expected


@pytest.mark.slow
async def test_the_first_token_is_timed_for_a_requests_own_stream_alone(service: Service) -> None:
    response = await service.ask("stream 5", stream=True)
    job_id = sse_events(response.text)[0][1]["id"]
    for after in ("0", "6"):
        await service.client.get(f"/jobs/{job_id}/events", headers={"Last-Event-ID": after})
    assert await service.metric('viscpm_time_to_first_token_seconds_count{model="chat"}') == 1


@pytest.mark.slow
async def test_what_a_watcher_follows_ends_with_it_and_its_job_does_not(service: Service, settings: Settings) -> None:
    """In another process than the job's own: there nobody follows it any more."""
    asked = {"question": "stream 100000", "stream": True}
    job = (await service.client.post("/chat", json=asked, headers={"Prefer": "respond-async"})).json()
    async with serving(settings) as other:
        async with other.client.stream("GET", f"/jobs/{job['id']}/events") as response:
            assert response.status_code == 200
            chunks = response.aiter_bytes()  # kept: the connection closes with it
            await anext(chunks)
            assert list(other.state.queue._streams) == [job["id"]]
        await eventually(lambda: not other.state.queue._streams)
        assert (await service.client.get(f"/jobs/{job['id']}")).json()["state"] == "running"
        gone = 'viscpm_requests_total{outcome="client_gone",route="/jobs/{job_id}/events"}'
        assert await other.metric(gone) == 1
    await service.client.delete(f"/jobs/{job['id']}")
    assert await service.accounting() == {"cancelled": 1}


@pytest.mark.slow
async def test_one_watcher_too_many_is_429(settings: Settings) -> None:
    async with serving(settings.model_copy(update={"max_watchers": 1})) as service:
        await service.ready()
        asked = {"question": "stream 100000", "stream": True}
        job = (await service.client.post("/chat", json=asked, headers={"Prefer": "respond-async"})).json()
        events = f"/jobs/{job['id']}/events"
        async with service.client.stream("GET", events) as response:
            chunks = response.aiter_bytes()  # kept: the connection closes with it
            await anext(chunks)
            refused = await service.client.get(events)
            error = assert_error(refused, 429, "too_many_watchers")
            assert error["type"] == "rate_limit_error" and int(refused.headers["retry-after"]) >= 1
        await eventually(lambda: service.state.queue._streams[job["id"]].num_watchers == 0)
        async with service.client.stream("GET", events) as response:
            assert response.status_code == 200
        await service.client.delete(f"/jobs/{job['id']}")
        assert await service.accounting() == {"cancelled": 1}


@pytest.mark.slow
async def test_a_running_stream_can_be_joined_by_id(service: Service) -> None:
    asked = {"question": "stream 150", "stream": True}
    job = (await service.client.post("/chat", json=asked, headers={"Prefer": "respond-async"})).json()
    response = await service.client.get(f"/jobs/{job['id']}/events")
    *events, answer, _ = [data for _, data in sse_events(response.text)]
    assert "".join(event["delta"] for event in events) == answer["answer"] == "".join(f"w{i} " for i in range(150))
    assert events[0]["conversation_id"] == answer["conversation_id"] and events[0]["model"] == "scripted"


async def test_a_finished_paint_job_streams_its_pictures(service: Service) -> None:
    answer = (await service.client.post("/paint", json={"prompt": "x"})).json()
    events = sse_events((await service.client.get(f"/jobs/{answer['id']}/events")).text)
    completed = [data for name, data in events if name == "image_generation.completed"]
    assert [one["b64_json"] for one in completed] == [answer["data"][0]["b64_json"]]


@pytest.mark.slow
async def test_a_painting_is_taken_up_again_at_another_process_and_misses_and_repeats_nothing(
    service: Service, settings: Settings
) -> None:
    body = {"prompt": "paint 30", "stream": True, "partial_images": 3, "n": 2, "seed": 5}
    job = (await service.client.post("/paint", json=body, headers={"Prefer": "respond-async"})).json()
    path, received = f"/jobs/{job['id']}/events", []
    async with serving(settings) as other:
        sides, last_id = [service, other], 0
        for number in range(40):  # a connection that is lost after a few events, each time
            headers = {"Last-Event-ID": str(last_id)} if last_id else {}
            async with sides[number % 2].client.stream("GET", path, headers=headers) as response:
                came = [block async for block in _blocks(response, 1 + number % 4)]
            received += [block for block in came if "[DONE]" not in block]
            last_id = int(ID.findall(received[-1])[0])
            if "[DONE]" in came[-1]:
                break
        again = [block async for block in _blocks(await other.client.get(path), 1000)]
    assert received == again[:-1] and len(received) == 30 + 3 + 2
    assert [int(ID.findall(block)[0]) for block in received] == [1, 2, 3, 4, 5, 6, *range(7, 60, 2), 61, 62]
    assert await service.accounting() == {"done": 1}


async def test_a_stream_in_openais_shape_is_gone_on_with_by_its_jobs_id(service: Service) -> None:
    body = {"prompt": "paint 3", "stream": True, "partial_images": 2, "n": 2}
    response = await service.client.post("/v1/images/generations", json=body)
    blocks = [block async for block in _blocks(response, 1000)]
    ids = [ID.findall(block)[0] for block in blocks[:-1]]
    assert ids == ["2", "4", "7", "8"]
    headers, path = {"Last-Event-ID": ids[1]}, f"/jobs/{response.headers['x-job-id']}/events"
    rest = sse_events((await service.client.get(path, headers=headers)).text)
    names = [name.removeprefix("image_generation.") for name, _ in rest]
    assert names == ["progress", "completed", "completed", ""]
    there = [data["b64_json"] for name, data in sse_events(response.text) if name.endswith("completed")]
    assert [data["b64_json"] for _, data in rest[1:3]] == there


async def _blocks(response: httpx.Response, count: int) -> AsyncIterator[str]:
    """Whole events of a stream, the first so many."""
    text = ""
    async for chunk in response.aiter_text():
        text += chunk
        *blocks, text = text.split("\n\n")
        for block in (one for one in blocks if not one.startswith(":")):
            yield block
            count -= 1
            if not count:
                return


@pytest.mark.slow
async def test_unknown_jobs(service: Service) -> None:
    for method, path in (("GET", "/jobs/nope"), ("DELETE", "/jobs/nope"), ("GET", "/jobs/nope/events")):
        assert_error(await service.client.request(method, path), 404, "job_not_found")
    answer = (await service.ask("echo x")).json()
    headers = {"Last-Event-ID": "-5"}
    assert_error(await service.client.get(f"/jobs/{answer['id']}/events", headers=headers), 400, "invalid_request")
    await service.redis.hset(f"{{viscpm}}:job:{answer['id']}", "tenant", "other")
    assert_error(await service.client.get(f"/jobs/{answer['id']}"), 404, "job_not_found")


@pytest.mark.slow
async def test_a_result_left_unscreened_is_completed_when_it_is_asked_for(service: Service) -> None:
    """An API process that died between the result and its ending leaves a job in `generated`."""
    headers = {"Prefer": "respond-async"}
    state = service.state
    see_to_it = state.finish_in_background
    state.finish_in_background = lambda stream, job_id: stream.close()  # this process forgets the job
    job = (await service.client.post("/chat", json={"question": "echo kept"}, headers=headers)).json()
    state.finish_in_background = see_to_it

    async def is_generated() -> bool:
        return await service.redis.hget(f"{{viscpm}}:job:{job['id']}", "state") == b"generated"

    await eventually(is_generated)
    told = (await service.client.get(f"/jobs/{job['id']}")).json()
    assert told["state"] == "done" and told["answer"]["answer"] == "kept"
    talk = told["answer"]["conversation_id"]
    assert len((await service.client.get(f"/conversations/{talk}")).json()["turns"]) == 1
    assert await service.accounting() == {"done": 1}
