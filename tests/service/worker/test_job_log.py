"""One line for each delivery that a worker had in hand, whatever became of it."""

import asyncio
import json
import logging
from typing import Any

import pytest

from models.jobs import (
    Candidate,
    ChatJob,
    ChatResult,
    Delta,
    Failed,
    Generated,
    PaintJob,
    PaintResult,
    Progress,
    SafetyJob,
)
from service.core.settings import Settings
from service.worker.job_log import JobLog
from tests.service.tree import ApiSide, StartWorker, WorkerProcess, eventually

RESULT = ChatResult(
    answer="a",
    answer_escaped="a",
    finish_reason="stop",
    prompt_tokens=9,
    image_tokens=0,
    completion_tokens=5,
    token_ids=[],
)


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Any:
    caplog.set_level(logging.INFO, "service.worker.job_log")

    def lines() -> list[dict[str, Any]]:
        return [dict(record.fields) for record in caplog.records]  # type: ignore[attr-defined]

    return lines


def test_a_line_tells_ids_work_and_outcome(told: Any) -> None:
    log = JobLog()
    log.begin(ChatJob(job_id="c", question="a secret", request_id="r1"), 2)
    log.see("c", Delta(token_ids=[1, 2], text="a secret", offset_chars=0))
    log.see("c", Generated(result=RESULT))
    log.end("c")
    [line] = told()
    assert 0 <= line.pop("duration_ms") < 1000
    assert line == {
        "job_id": "c",
        "request_id": "r1",
        "model": "chat",
        "delivery": 2,
        "tokens": 5,
        "outcome": "generated",
    }


def test_work_done_so_far_is_told_too(told: Any) -> None:
    log = JobLog()
    log.begin(ChatJob(job_id="c", question="q"), 1)
    log.see("c", Delta(token_ids=[1, 2], text="a", offset_chars=0))
    log.see("c", Delta(token_ids=[3], text="b", offset_chars=1))
    log.end("c", "cancelled")
    log.begin(PaintJob(job_id="p", prompt="q"), 1)
    log.see("p", Progress(step=1, total_steps=9))
    log.see("p", Progress(step=2, total_steps=9))
    log.see("p", Failed(code="out_of_memory", message="a secret"))
    log.end("p")
    log.begin(PaintJob(job_id="p2", prompt="q"), 1)
    painted = PaintResult(candidates=[Candidate(png=b"", seed=1)], prompt_tokens=1, height_px=8, width_px=8)
    log.see("p2", Generated(result=painted))
    log.end("p2")
    log.begin(SafetyJob(job_id="s", content_key="k"), 1)
    log.end("s", "lost")
    lines = told()
    assert [(line["model"], line["outcome"]) for line in lines] == [
        ("chat", "cancelled"),
        ("paint", "out_of_memory"),
        ("paint", "generated"),
        ("safety", "lost"),
    ]
    assert [line.get("tokens") for line in lines] == [3, None, None, None]
    assert [line.get("steps") for line in lines] == [None, 2, None, None]
    assert not any("request_id" in line for line in lines)


def test_a_job_ends_once_and_no_unknown_one_does(told: Any) -> None:
    log = JobLog()
    log.see("x", Failed(code="job_failed", message=""))
    log.end("x", "lost")
    log.begin(ChatJob(job_id="c", question="q"), 1)
    log.end("c", "requeued")
    log.end("c", "lost")
    assert [line["outcome"] for line in told()] == ["requeued"]


def said(worker: WorkerProcess) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in worker.said().splitlines()]
    return [line for line in lines if line["message"] == "job"]


@pytest.mark.own_process
async def test_a_worker_says_what_became_of_each_job(
    api: ApiSide, start_worker: StartWorker, settings: Settings
) -> None:
    worker = start_worker(settings.model_copy(update={"log_format": "json"}), step_s=0.05)
    await api.ready(worker)
    outcomes = await asyncio.gather(
        api.request("stream 5", request_id="r-stream"), api.request("raise"), api.request("reject")
    )
    going_on = await api.start("stream 1000", request_id="r-cancelled")
    await asyncio.sleep(0.3)
    assert await api.producer.cancel(going_on, "client_gone")
    await eventually(lambda: any(line["job_id"] == going_on for line in said(worker)))
    lines = {line["job_id"]: line for line in said(worker)}
    streamed, raised, rejected = (lines[one.job_id] for one in outcomes)
    assert (streamed["outcome"], streamed["request_id"], streamed["tokens"]) == ("generated", "r-stream", 5)
    assert streamed["role"] == "worker chat" and streamed["duration_ms"] >= 5 * 50
    assert (raised["outcome"], rejected["outcome"]) == ("job_failed", "context_length_exceeded")
    assert lines[going_on]["outcome"] in ("cancelled", "lost") and lines[going_on]["request_id"] == "r-cancelled"
    assert len(said(worker)) == sum(line["delivery"] for line in lines.values()), "one line for each delivery"
    assert {line["outcome"] for line in said(worker) if line not in lines.values()} <= {"requeued"}


@pytest.mark.own_process
async def test_a_dead_worker_s_job_says_its_second_delivery(
    api: ApiSide, start_worker: StartWorker, settings: Settings
) -> None:
    in_json = settings.model_copy(update={"log_format": "json"})
    first = start_worker(in_json, step_s=0.2)
    await api.ready(first)
    job_id = await api.start("stream 8", request_id="r1")
    await asyncio.sleep(0.3)
    first.kill()
    second = start_worker(in_json, predecessor=first.id)
    await eventually(lambda: said(second), 20.0)
    [line] = said(second)
    assert (line["job_id"], line["request_id"], line["delivery"]) == (job_id, "r1", 2)
    assert said(first) == []
