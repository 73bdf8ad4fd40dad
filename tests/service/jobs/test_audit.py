"""The audit log: every decision, no content, and a file that may be moved away."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from safety.gate import VerdictNotRecorded
from safety.verdict import Verdict
from service.core.metrics import Metrics
from service.jobs import audit as audit_module
from service.jobs.audit import Audit, AuditUnwritable
from tests.service.tree import eventually

linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux: /dev/full, and pipes of a known size")
BLOCKED = Verdict(
    "prompt",
    "block",
    {"illicit": 0.98765, "hate": 0.0},
    "rules",
    "no",
    ("illicit",),
    "en",
    "p1",
    sha256="ab" * 32,
    versions={"rules": "r1"},
)


async def test_lines_tell_who_what_and_by_which_policy(tmp_path: Path) -> None:
    path, metrics = tmp_path / "audit.jsonl", Metrics("api")
    audit = Audit(metrics, str(path))
    await audit.judged("paint-1", BLOCKED)
    await eventually(path.read_bytes)
    path.rename(tmp_path / "audit.jsonl.1")
    audit.failed("chat-2", "input_image", TimeoutError("with a secret"))
    await audit.close()
    [first] = [json.loads(line) for line in (tmp_path / "audit.jsonl.1").read_text().splitlines()]
    assert first.pop("time").startswith("20")
    assert first == {
        "job": "paint-1",
        "stage": "prompt",
        "decision": "block",
        "found": ["illicit"],
        "scores": {"illicit": 0.9877, "hate": 0.0},
        "screens": "rules",
        "versions": {"rules": "r1"},
        "language": "en",
        "policy": "p1",
        "sha256": "ab" * 32,
    }
    [second] = [json.loads(line) for line in path.read_text().splitlines()]
    assert (second["job"], second["decision"], second["reason"]) == ("chat-2", "none", "TimeoutError")
    assert "secret" not in path.read_text()
    text = metrics.render().decode()
    assert 'viscpm_safety_decisions_total{stage="prompt",verdict="block"} 1.0' in text
    assert 'viscpm_safety_found_total{category="illicit",stage="prompt"} 1.0' in text
    assert 'viscpm_safety_failures_total{stage="input_image"} 1.0' in text


async def test_without_a_file_there_are_metrics_alone() -> None:
    metrics = Metrics("api")
    audit = Audit(metrics)
    await audit.judged("chat-1", Verdict("answer", "pass"))
    await audit.close()
    assert 'viscpm_safety_decisions_total{stage="answer",verdict="pass"} 1.0' in metrics.render().decode()


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(AuditUnwritable, match="VISCPM_SAFETY_AUDIT_FILE=.*no such/file: No such file"):
        Audit(Metrics("api"), str(tmp_path / "no such" / "file"))


@linux
@pytest.mark.parametrize("is_required", [False, True])
async def test_a_full_disk_is_counted_and_blocks_where_the_file_is_required(is_required: bool) -> None:
    metrics = Metrics("api")
    audit = Audit(metrics, "/dev/full", is_required)
    decided = 'viscpm_safety_decisions_total{stage="prompt",verdict="block"} 1.0'
    if is_required:
        with pytest.raises(VerdictNotRecorded, match="cannot be written"):
            await audit.judged("paint-1", BLOCKED)
        assert decided not in metrics.render().decode()
    else:
        await audit.judged("paint-1", BLOCKED)
        assert decided in metrics.render().decode()
    await audit.close()
    assert "viscpm_safety_audit_lost_total 1.0" in metrics.render().decode()


async def test_a_required_line_is_in_the_file_when_its_verdict_counts(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    audit = Audit(Metrics("api"), str(path), is_required=True)
    for number in range(1, 4):
        await asyncio.gather(*(audit.judged(f"chat-{number}-{place}", BLOCKED) for place in range(5)))
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        assert [line["job"] for line in lines[-5:]] == [f"chat-{number}-{place}" for place in range(5)]
        assert len(lines) == 5 * number
    await audit.close()


@pytest.mark.slow
@linux
async def test_a_hung_disk_holds_neither_the_loop_nor_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_module, "_WRITE_LIMIT_S", 0.2)
    monkeypatch.setattr(audit_module, "_CLOSE_LIMIT_S", 0.2)
    path = tmp_path / "audit.jsonl"
    os.mkfifo(path)
    pipe = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    while True:  # until it holds no more
        try:
            os.write(pipe, bytes(4096))
        except BlockingIOError:
            break
    try:
        audit = Audit(Metrics("api"), str(path), is_required=True)
        judging = asyncio.create_task(audit.judged("chat-1", BLOCKED))
        loop = asyncio.get_running_loop()
        longest_s, before_s = 0.0, loop.time()
        while not judging.done():
            await asyncio.sleep(0.001)
            longest_s, before_s = max(longest_s, loop.time() - before_s), loop.time()
        with pytest.raises(VerdictNotRecorded, match="not written within 0.2 s"):
            await judging
        assert longest_s < 0.15
        left = asyncio.create_task(audit.judged("chat-2", BLOCKED))
        await asyncio.sleep(0)
        left.cancel()
        began_s = loop.time()
        await audit.close()
        assert loop.time() - began_s < 2
    finally:
        written = b""
        while b"chat-2" not in written:  # the disk is back
            try:
                written += os.read(pipe, 1 << 16)
            except BlockingIOError:
                await asyncio.sleep(0.01)
        os.close(pipe)
        assert audit._file is not None
        os.close(audit._file._descriptor)
