"""The audit log: every decision, no content, and a file that may be moved away."""

import json
from pathlib import Path

import pytest

from safety.verdict import Verdict
from service.core.metrics import Metrics
from service.jobs.audit import Audit, AuditUnwritable

BLOCKED = Verdict(
    "prompt", "block", {"illicit": 0.98765, "hate": 0.0}, "rules", "no", ("illicit",), "en", "p1", sha256="ab" * 32
)


def test_lines_tell_who_what_and_by_which_policy(tmp_path: Path) -> None:
    path, metrics = tmp_path / "audit.jsonl", Metrics("api")
    audit = Audit(metrics, str(path))
    audit.judged("paint-1", BLOCKED)
    path.rename(tmp_path / "audit.jsonl.1")
    audit.failed("chat-2", "input_image", TimeoutError("with a secret"))
    audit.close()
    [first] = [json.loads(line) for line in (tmp_path / "audit.jsonl.1").read_text().splitlines()]
    assert first.pop("time").startswith("20")
    assert first == {
        "job": "paint-1",
        "stage": "prompt",
        "decision": "block",
        "found": ["illicit"],
        "scores": {"illicit": 0.9877, "hate": 0.0},
        "screens": "rules",
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


def test_without_a_file_there_are_metrics_alone() -> None:
    metrics = Metrics("api")
    Audit(metrics).judged("chat-1", Verdict("answer", "pass"))
    assert 'viscpm_safety_decisions_total{stage="answer",verdict="pass"} 1.0' in metrics.render().decode()


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(AuditUnwritable, match="VISCPM_SAFETY_AUDIT_FILE=.*no such/file: No such file"):
        Audit(Metrics("api"), str(tmp_path / "no such" / "file"))
