"""What the gate decided, for metrics and for the audit log: JSON lines that hold no content.

A line tells a job's id, the stage, the decision, the scores, the policy's version and the content's SHA-256; with the
content at hand that says whether this was it. A short text can be guessed from its digest, so the log is no public one.
"""

import logging
from datetime import UTC, datetime
from logging.handlers import WatchedFileHandler

import msgspec

from safety.verdict import Stage, Verdict
from service.core.metrics import Metrics


class AuditUnwritable(Exception):
    """The audit file cannot be opened; the message is one line."""


class Audit:
    """The gate's observer (safety.contents.Observer).

    Args:
        path: appended to, line by line; opened again where it was moved away (logrotate). Empty: no file.

    Raises:
        AuditUnwritable: it cannot be opened.
    """

    def __init__(self, metrics: Metrics, path: str = "") -> None:
        self._metrics = metrics
        self._file: WatchedFileHandler | None = None
        if path:
            try:
                self._file = WatchedFileHandler(path, encoding="utf-8")
            except OSError as error:
                raise AuditUnwritable(f"VISCPM_SAFETY_AUDIT_FILE={path}: {error.strerror or error}") from error

    def judged(self, job_id: str, verdict: Verdict) -> None:
        self._metrics.count("safety_decisions_total", stage=verdict.stage, verdict=verdict.decision)
        for category in verdict.found or ():
            self._metrics.count("safety_found_total", stage=verdict.stage, category=category)
        self._write(
            job=job_id,
            stage=verdict.stage,
            decision=verdict.decision,
            found=verdict.found or (),
            scores={category: round(score, 4) for category, score in verdict.scores.items()},
            screens=verdict.model,
            language=verdict.language,
            policy=verdict.policy,
            sha256=verdict.sha256,
        )

    def failed(self, job_id: str, stage: Stage, error: Exception) -> None:
        self._metrics.count("safety_failures_total", stage=stage)
        self._write(job=job_id, stage=stage, decision="none", reason=type(error).__name__)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _write(self, **fields: object) -> None:
        if self._file is None:
            return
        line = msgspec.json.encode({"time": datetime.now(UTC).isoformat(timespec="milliseconds"), **fields}).decode()
        self._file.emit(logging.makeLogRecord({"msg": line}))
