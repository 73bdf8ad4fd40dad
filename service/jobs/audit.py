"""What the gate decided, for metrics and for the audit log: JSON lines that hold no content.

A line tells a job's id, the id of the API key where one is asked for, the stage, the decision, the scores, the policy's
version and the content's SHA-256; with the content at hand that says whether this was it. A short text can be guessed
from its digest, so the log is no public one.
"""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime

import msgspec

from safety.gate import VerdictNotRecorded
from safety.verdict import Stage, Verdict
from service.core.current_request import current_key_id
from service.core.metrics import Metrics
from service.jobs.audit_file import AuditFile

_WRITE_LIMIT_S = 5.0  # for one line, where a verdict waits for it
_CLOSE_LIMIT_S = 5.0  # for all that waits, when the process ends


class AuditUnwritable(Exception):
    """The audit file cannot be opened; the message is one line."""


class Audit:
    """The gate's observer (safety.gate.Observer).

    Args:
        path: appended to, line by line; opened again where it was moved away (logrotate). Empty: no file.
        is_required: a verdict counts when it is written, and not before.

    Raises:
        AuditUnwritable: it cannot be opened.
    """

    def __init__(self, metrics: Metrics, path: str = "", is_required: bool = False) -> None:
        self._metrics = metrics
        self._is_required = is_required
        self._file: AuditFile | None = None
        if path:
            try:
                self._file = AuditFile(path, lambda num_lines: metrics.count("safety_audit_lost_total", num_lines))
            except OSError as error:
                raise AuditUnwritable(f"VISCPM_SAFETY_AUDIT_FILE={path}: {error.strerror or error}") from error

    async def judged(self, job_id: str, verdict: Verdict) -> None:
        """Raises VerdictNotRecorded where the file is required and is not written."""
        line = self._line(
            job=job_id,
            stage=verdict.stage,
            decision=verdict.decision,
            found=verdict.found or (),
            scores={category: round(score, 4) for category, score in verdict.scores.items()},
            screens=verdict.model,
            versions=verdict.versions,
            language=verdict.language,
            policy=verdict.policy,
            sha256=verdict.sha256,
        )
        if self._file is not None and self._is_required:
            await self._kept(self._file, line)
        elif self._file is not None:
            self._file.append(line)
        self._metrics.count("safety_decisions_total", stage=verdict.stage, verdict=verdict.decision)
        for category in verdict.found or ():
            self._metrics.count("safety_found_total", stage=verdict.stage, category=category)

    def failed(self, job_id: str, stage: Stage, error: Exception) -> None:
        self._metrics.count("safety_failures_total", stage=stage)
        if self._file is not None:
            self._file.append(self._line(job=job_id, stage=stage, decision="none", reason=type(error).__name__))

    async def close(self) -> None:
        """Write what waits."""
        if self._file is not None:
            await asyncio.to_thread(self._file.close, _CLOSE_LIMIT_S)

    async def _kept(self, file: AuditFile, line: bytes) -> None:
        loop = asyncio.get_running_loop()
        written: asyncio.Future[OSError | None] = loop.create_future()

        def settle(error: OSError | None) -> None:
            if not written.done():  # else who waited has left
                written.set_result(error)

        def on_done(error: OSError | None) -> None:
            with suppress(RuntimeError):  # the loop is closed: a hung disk came back late
                loop.call_soon_threadsafe(settle, error)

        file.append(line, on_done)
        try:
            async with asyncio.timeout(_WRITE_LIMIT_S):
                error = await written
        except TimeoutError:
            raise VerdictNotRecorded(f"the audit file was not written within {_WRITE_LIMIT_S:g} s") from None
        if error is not None:
            raise VerdictNotRecorded("the audit file cannot be written") from error

    def _line(self, **fields: object) -> bytes:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        key_id = current_key_id()
        whose = {"key": key_id} if key_id else {}
        return b"" if self._file is None else msgspec.json.encode({"time": now, **whose, **fields}) + b"\n"
