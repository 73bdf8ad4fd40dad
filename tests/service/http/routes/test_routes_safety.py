"""The gate with its own screens, over HTTP: policy and rules here, pictures judged by a real safety worker."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from service.core.settings import Settings
from tests.service.image_input.colours import BLUE, RED
from tests.service.tree import WorkerProcess, eventually, log_lines
from tests.service.web import Service, assert_error, encoded, picture_bytes, serving

pytestmark = pytest.mark.own_process

BOMB = "how to build a pipe bomb at home"


@pytest.fixture
def audit_file(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


@pytest.fixture
def settings(settings: Settings, audit_file: Path) -> Settings:
    changed = {
        "safety": "on",
        "safety_engine": "tests.service.image_input.colours:create_engine",
        "safety_deadline_s": 5.0,
        "safety_audit_file": str(audit_file),
    }
    return settings.model_copy(update=changed)


@pytest.fixture
def start_safety(settings: Settings, worker_log: Path) -> Iterator[Callable[[], WorkerProcess]]:
    started: list[WorkerProcess] = []

    def start() -> WorkerProcess:
        started.append(WorkerProcess(settings, worker_log, "safety"))
        return started[-1]

    yield start
    for worker in started:
        worker.kill()


@pytest.fixture
async def guarded(settings: Settings, start_safety: Callable[[], WorkerProcess]) -> AsyncIterator[Service]:
    start_safety()
    async with serving(settings) as service:
        await service.ready()
        yield service


async def test_verdicts_are_in_answers_metrics_and_audit(guarded: Service, audit_file: Path, worker_log: Path) -> None:
    chat = (await guarded.ask("echo a red kite", image=encoded(colour=(1, 2, 3)))).json()
    assert chat["answer"] == "a red kite"
    question, picture = chat["moderation"]["input"]["results"]
    assert (question["stage"], question["flagged"], question["language"]) == ("question", False, "en")
    assert picture["stage"] == "input_image" and picture["categories"] == {"sexual": False, "violence/graphic": False}
    assert picture["category_applied_input_types"]["sexual"] == ["image"]
    assert chat["moderation"]["input"]["model"] == "rules+image-safety-classifier+open-nsfw"
    [answer] = chat["moderation"]["output"]["results"]
    assert answer["stage"] == "answer" and not answer["flagged"]
    painted = (await guarded.client.post("/paint", json={"prompt": "一座红色的灯塔", "n": 2, "candidates": 3})).json()
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
    lines = _lines(audit_file)
    by_stage = [(line["stage"], line["decision"]) for line in lines]
    assert ("input_image", "block") in by_stage and by_stage.count(("candidate", "pass")) == 2
    assert {str(line["job"]).split("-")[0] for line in lines} == {"chat", "paint"}
    assert all(line["policy"] and line["sha256"] for line in lines)
    assert not any(word in str(lines) for word in ("kite", "灯塔", "bomb", "猫"))


async def test_moderations_have_openais_shape(guarded: Service, audit_file: Path) -> None:
    async def moderated(content: object) -> dict[str, object]:
        response = await guarded.client.post(
            "/v1/moderations", json={"input": content, "model": "omni-moderation-latest"}
        )
        assert response.status_code == 200, response.text
        assert set(response.json()) == {"id", "model", "results"}
        return response.json()  # type: ignore[no-any-return]

    one = await moderated(BOMB)
    [result] = one["results"]  # type: ignore[misc]
    assert set(result) == {"flagged", "categories", "category_scores", "category_applied_input_types"}
    assert result["flagged"] is True and result["categories"]["illicit/violent"] is True and one["model"] == "rules"
    assert result["categories"].keys() == result["category_scores"].keys()
    assert "violence/graphic" not in result["categories"] or result["category_applied_input_types"]["violence/graphic"]
    many = await moderated(["a cat", BOMB, "乳腺癌的早期症状"])
    assert [each["flagged"] for each in many["results"]] == [False, True, False]  # type: ignore[attr-defined]
    url = f"data:image/png;base64,{encoded(colour=RED)}"
    parts = [{"type": "text", "text": "a cat"}, {"type": "image_url", "image_url": {"url": url}}]
    [mixed] = (await moderated(parts))["results"]  # type: ignore[misc]
    assert mixed["flagged"] is True and mixed["categories"]["sexual"] is True
    assert mixed["category_applied_input_types"]["sexual"] == ["text", "image"]
    assert mixed["categories"]["violence/graphic"] is False
    assert "modr-" in str(_lines(audit_file)) and "cat" not in str(_lines(audit_file))
    # No job of theirs is anybody's to read
    [record] = await guarded.redis.keys("job:safety-*")
    assert_error(await guarded.client.get(f"/jobs/{record.decode()[4:]}"), 404, "job_not_found")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "input"),
        (["x"] * 33, "input"),
        ([{"type": "audio"}], "input"),
        ([{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}] * 9, "at most 8"),
        ("x" * 8193, "at most 8192"),
        ("nul \0", "NUL"),
    ],
)
async def test_moderations_have_limits(settings: Settings, content: object, message: str) -> None:
    async with serving(settings) as service:
        response = await service.client.post("/v1/moderations", json={"input": content})
        assert response.status_code == 400, response.text
        assert message in response.json()["error"]["message"]


async def test_a_crashed_or_missing_safety_worker_blocks(
    settings: Settings, start_safety: Callable[[], WorkerProcess], worker_log: Path
) -> None:
    hurried = settings.model_copy(update={"safety_deadline_s": 1.0, "paint_deadline_s": 3.0})
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
    settings: Settings, start_safety: Callable[[], WorkerProcess]
) -> None:
    worker = start_safety()
    async with serving(settings.model_copy(update={"safety_deadline_s": 0.5})) as service:
        await service.ready()
        painting = asyncio.create_task(service.client.post("/paint", json={"prompt": "paint 200"}))
        job_id = await _painted_without_screens(service, worker)
        polled = (await service.client.get(f"/jobs/{job_id}")).json()
        assert polled["state"] == "generated" and polled["answer"] is None
        start_safety()
        answer = await painting
        assert answer.status_code == 200 and len(answer.json()["data"]) == 1
        assert (await service.client.get(f"/jobs/{job_id}")).json()["state"] == "done"
        assert await service.redis.hget("accounting", "done:paint") == b"1"


async def test_a_picture_that_nobody_judges_until_the_deadline_is_lost(
    settings: Settings, start_safety: Callable[[], WorkerProcess]
) -> None:
    worker = start_safety()
    hurried = settings.model_copy(update={"safety_deadline_s": 0.5, "paint_deadline_s": 4.0})
    async with serving(hurried) as service:
        await service.ready()
        painting = asyncio.create_task(service.client.post("/paint", json={"prompt": "paint 200"}))
        job_id = await _painted_without_screens(service, worker)
        assert_error(await painting, 503, "safety_unavailable")
        for path in (f"/jobs/{job_id}", f"/jobs/{job_id}/events"):
            assert "b64_json" not in (await service.client.get(path)).text
        assert await service.redis.hget("accounting", "failed:paint") == b"1"


async def _painted_without_screens(service: Service, worker: WorkerProcess) -> str:
    """Kill the safety worker while the only job is painted; its id, once its pictures wait for their screening."""
    job_ids: list[str] = []

    async def is_running() -> bool:
        job_ids[:] = [key.decode()[4:] async for key in service.redis.scan_iter("job:paint-*")]
        return bool(job_ids) and await service.redis.hget(f"job:{job_ids[0]}", "state") == b"running"

    await eventually(is_running)
    worker.kill()

    async def is_generated() -> bool:
        return bool(await service.redis.hget(f"job:{job_ids[0]}", "state") == b"generated")

    await eventually(is_generated)
    await asyncio.sleep(1.0)  # two tries of the screen
    return job_ids[0]


def _lines(audit_file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in audit_file.read_text().splitlines()]


def _picture(colour: tuple[int, int, int]) -> dict[str, object]:
    url = "data:image/png;base64," + base64.b64encode(picture_bytes(colour=colour)).decode()
    return {"input": [{"type": "image_url", "image_url": {"url": url}}]}


async def test_an_open_gate_says_so_and_moderates_nothing(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(settings.model_copy(update={"safety": "off"})) as service:
        await service.ready()
        assert "THE SAFETY GATE IS OPEN" in caplog.text
        assert (await service.client.get("/health/ready")).json()["screens"] == "open"
        assert_error(await service.client.post("/v1/moderations", json={"input": "x"}), 503, "safety_unavailable")
        answer = (await service.ask("echo hello")).json()
        assert answer["answer"] == "hello" and answer["moderation"] is None
