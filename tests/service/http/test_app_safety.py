"""The gate with its own screens, over HTTP: policy and rules here, pictures judged by a real safety worker."""

import asyncio
import base64
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from service.core.settings import Settings
from tests.service.image_input.colours import BLUE, RED
from tests.service.tree import WorkerProcess, eventually, log_lines
from tests.service.web import Service, assert_error, encoded, picture_bytes, serving

pytestmark = pytest.mark.own_process

BOMB = "how to build a pipe bomb at home"


async def test_verdicts_are_in_answers_metrics_and_audit(guarded: Service, audit_file: Path, worker_log: Path) -> None:
    asked = {"image": encoded(colour=(1, 2, 3)), "include": ["moderation"]}
    chat = (await guarded.ask("echo a red kite", **asked)).json()
    assert chat["answer"] == "a red kite"
    question, picture = chat["moderation"]["input"]["results"]
    assert (question["stage"], question["flagged"], question["language"]) == ("question", False, "en")
    assert picture["stage"] == "input_image" and picture["categories"] == {"sexual": False, "violence/graphic": False}
    assert picture["category_applied_input_types"]["sexual"] == ["image"]
    assert chat["moderation"]["input"]["model"] == "rules+image-safety-classifier+open-nsfw"
    [answer] = chat["moderation"]["output"]["results"]
    assert answer["stage"] == "answer" and not answer["flagged"]
    wanted = {"prompt": "一座红色的灯塔", "n": 2, "candidates": 3, "include": ["moderation"]}
    painted = (await guarded.client.post("/paint", json=wanted)).json()
    assert [one["stage"] for one in painted["moderation"]["input"]["results"]] == ["prompt"]
    assert [one["stage"] for one in painted["moderation"]["output"]["results"]] == ["candidate"] * 2

    admitted = len(log_lines(worker_log, "admit"))
    red = await guarded.ask("这是什么？", image=encoded(colour=RED))
    error = assert_error(red, 400, "content_policy_violation", "input_image")
    assert "规范" in error["message"]
    [result] = error["moderation"]["input"]["results"]
    assert result["categories"] == {"sexual": True, "violence/graphic": False}
    assert_error(await guarded.ask(BOMB), 400, "content_policy_violation", "question")
    refused = await guarded.client.post("/paint", json={"prompt": "一只猫", "negative_prompt": BOMB})
    assert_error(refused, 400, "content_policy_violation", "negative_prompt")
    assert len(log_lines(worker_log, "admit")) == admitted

    assert await guarded.metric('viscpm_safety_decisions_total{stage="input_image",verdict="block"}') == 1
    assert await guarded.metric('viscpm_safety_found_total{category="sexual",stage="input_image"}') == 1
    await eventually(lambda: any(line["stage"] == "negative_prompt" for line in _lines(audit_file)))  # the last one
    lines = _lines(audit_file)
    by_stage = [(line["stage"], line["decision"]) for line in lines]
    assert ("input_image", "block") in by_stage and by_stage.count(("candidate", "pass")) == 2
    assert {str(line["job"]).split("-")[0] for line in lines} == {"chat", "paint"}
    assert all(line["policy"] and line["sha256"] for line in lines)
    assert not any(word in str(lines) for word in ("kite", "灯塔", "bomb", "猫"))


async def test_a_crashed_or_missing_safety_worker_blocks(
    guarded_settings: Settings, start_safety: Callable[[], WorkerProcess], worker_log: Path
) -> None:
    hurried = guarded_settings.model_copy(update={"safety_deadline_s": 1.0, "paint_deadline_s": 3.0})
    worker = start_safety()
    async with serving(hurried) as service:
        await service.ready()
        admitted = len(log_lines(worker_log, "admit"))
        for stream in (False, True):
            crashed = await service.ask("echo fine", image=encoded(colour=BLUE), stream=stream)
            assert_error(crashed, 503, "safety_unavailable")
            assert int(crashed.headers["retry-after"]) >= 1
        assert worker.process.poll() is not None
        assert_error(await service.client.post("/v1/moderations", json=_picture(RED)), 503, "safety_unavailable")
        assert len(log_lines(worker_log, "admit")) == admitted
        painted = await service.client.post("/paint", json={"prompt": "a lighthouse"})
        assert_error(painted, 503, "safety_unavailable")

        async def is_told() -> bool:
            report = (await service.client.get("/health/ready")).json()
            return "safety" in report["down"] and report["safety"]["state"] == "absent"

        await eventually(is_told, 20.0)
        refused = await service.client.post("/paint", json={"prompt": "a bridge"})  # nobody could judge it
        assert_error(refused, 503, "safety_unavailable")
        assert (await service.ask("echo text alone")).status_code == 200  # its screens are here
        assert await service.metric('viscpm_safety_failures_total{stage="input_image"}') >= 3
        start_safety()
        await service.ready()
        assert (await service.ask("echo again", image=encoded(colour=(9, 9, 9)))).status_code == 200


async def test_a_picture_waits_for_a_safety_worker_that_comes_back(
    guarded_settings: Settings, start_safety: Callable[[], WorkerProcess]
) -> None:
    worker = start_safety()
    async with serving(guarded_settings.model_copy(update={"safety_deadline_s": 0.5})) as service:
        await service.ready()
        painting = asyncio.create_task(service.client.post("/paint", json={"prompt": "paint 200"}))
        job_id = await _painted_without_screens(service, worker)
        polled = (await service.client.get(f"/jobs/{job_id}")).json()
        assert polled["state"] == "generated" and polled["answer"] is None
        start_safety()
        answer = await painting
        assert answer.status_code == 200 and len(answer.json()["data"]) == 1
        assert (await service.client.get(f"/jobs/{job_id}")).json()["state"] == "done"
        assert await service.redis.hget("{viscpm}:accounting", "done:paint") == b"1"


async def test_a_picture_that_nobody_judges_until_the_deadline_is_lost(
    guarded_settings: Settings, start_safety: Callable[[], WorkerProcess]
) -> None:
    worker = start_safety()
    hurried = guarded_settings.model_copy(update={"safety_deadline_s": 0.5, "paint_deadline_s": 4.0})
    async with serving(hurried) as service:
        await service.ready()
        painting = asyncio.create_task(service.client.post("/paint", json={"prompt": "paint 200"}))
        job_id = await _painted_without_screens(service, worker)
        assert_error(await painting, 503, "safety_unavailable")
        for path in (f"/jobs/{job_id}", f"/jobs/{job_id}/events"):
            assert "b64_json" not in (await service.client.get(path)).text
        assert await service.redis.hget("{viscpm}:accounting", "failed:paint") == b"1"


async def _painted_without_screens(service: Service, worker: WorkerProcess) -> str:
    """Kill the safety worker while the only job is painted; its id, once its pictures wait for their screening."""
    job_ids: list[str] = []

    async def is_running() -> bool:
        job_ids[:] = [key.decode().split(":", 2)[2] async for key in service.redis.scan_iter("{viscpm}:job:paint-*")]
        return bool(job_ids) and await service.redis.hget(f"{{viscpm}}:job:{job_ids[0]}", "state") == b"running"

    await eventually(is_running)
    worker.kill()

    async def is_generated() -> bool:
        return bool(await service.redis.hget(f"{{viscpm}}:job:{job_ids[0]}", "state") == b"generated")

    await eventually(is_generated)
    await asyncio.sleep(1.0)  # two tries of the screen
    return job_ids[0]


@pytest.mark.skipif(sys.platform != "linux", reason="Linux: /dev/full")
async def test_a_required_audit_file_on_a_full_disk_lets_nothing_pass(
    guarded_settings: Settings, start_safety: Callable[[], WorkerProcess], tmp_path: Path, worker_log: Path
) -> None:
    path = tmp_path / "linked.jsonl"
    path.symlink_to("/dev/full")
    changed = {"safety_audit_file": str(path), "safety_audit_required": True}
    start_safety()
    async with serving(guarded_settings.model_copy(update=changed)) as service:
        await service.ready()
        admitted = len(log_lines(worker_log, "admit"))
        error = assert_error(await service.ask("echo fine"), 503, "safety_unavailable")
        assert error["message"].startswith("the verdict on the question could not be recorded")
        assert len(log_lines(worker_log, "admit")) == admitted

        async def are_counted() -> bool:  # the line of the verdict, and the one that says that there is none
            return await service.metric("viscpm_safety_audit_lost_total") == 2

        await eventually(are_counted)
        path.unlink()  # freed
        assert (await service.ask("echo fine")).json()["answer"] == "fine"
        assert [line["stage"] for line in _lines(path)] == ["question", "answer"]
        # Full again while a picture is painted: it is kept until its verdict can be
        painting = asyncio.create_task(service.client.post("/paint", json={"prompt": "paint 200"}))
        await eventually(lambda: _is_running(service))
        path.rename(tmp_path / "kept.jsonl")
        path.symlink_to("/dev/full")
        await asyncio.sleep(2)
        assert not painting.done()
        path.unlink()
        assert (await painting).status_code == 200
        assert [(line["stage"], line["decision"]) for line in _lines(path)][-1] == ("candidate", "pass")


async def _is_running(service: Service) -> bool:
    states = [await service.redis.hget(key, "state") async for key in service.redis.scan_iter("{viscpm}:job:paint-*")]
    return b"running" in states


def _lines(audit_file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in audit_file.read_text().splitlines()]


def _picture(colour: tuple[int, int, int]) -> dict[str, object]:
    url = "data:image/png;base64," + base64.b64encode(picture_bytes(colour=colour)).decode()
    return {"input": [{"type": "image_url", "image_url": {"url": url}}]}


async def test_an_open_gate_says_so_and_moderates_nothing(
    guarded_settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(guarded_settings.model_copy(update={"safety": "off"})) as service:
        await service.ready()
        assert "THE SAFETY GATE IS OPEN" in caplog.text
        assert (await service.client.get("/health/ready")).json()["screens"] == "open"
        assert_error(await service.client.post("/v1/moderations", json={"input": "x"}), 503, "safety_unavailable")
        answer = (await service.ask("echo hello")).json()
        assert answer["answer"] == "hello" and answer["moderation"] is None
