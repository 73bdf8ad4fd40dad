"""The worker's log of jobs: one line for each delivery, when the worker has it no more."""

import logging
import time
from dataclasses import dataclass, field

from models.jobs import ChatJob, ChatResult, Delta, Event, Failed, Generated, Job, Kind, PaintJob, Progress
from service.core.logs import fields

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Work:
    job: Job
    delivery: int
    began_s: float = field(default_factory=time.monotonic)
    tokens: int | None = None
    steps: int | None = None
    outcome: str = ""


class JobLog:
    """What is known of the jobs in hand."""

    def __init__(self) -> None:
        self._works: dict[str, _Work] = {}

    def begin(self, job: Job, delivery: int) -> None:
        self._works[job.job_id] = _Work(job, delivery)

    def see(self, job_id: str, event: Event) -> None:
        """An event of a job in hand; its last one tells the outcome."""
        work = self._works.get(job_id)
        if work is None:
            return
        if isinstance(event, Delta):
            work.tokens = (work.tokens or 0) + len(event.token_ids)
        elif isinstance(event, Progress):
            work.steps = event.step
        elif isinstance(event, Failed):
            work.outcome = event.code
        elif isinstance(event, Generated):
            work.outcome = "generated"
            if isinstance(event.result, ChatResult):
                work.tokens = event.result.completion_tokens

    def end(self, job_id: str, outcome: str = "") -> None:
        """The job is not in hand any more; `outcome` where it is not the one of its last event."""
        work = self._works.pop(job_id, None)
        if work is None or not _log.isEnabledFor(logging.INFO):
            return
        told = fields(
            job_id=job_id,
            request_id=work.job.request_id or None,
            model=_model(work.job),
            delivery=work.delivery,
            tokens=work.tokens,
            steps=work.steps,
            duration_ms=round((time.monotonic() - work.began_s) * 1000, 1),
            outcome=outcome or work.outcome,
        )
        _log.info("job", extra=told)


def _model(job: Job) -> Kind:
    if isinstance(job, ChatJob):
        return "chat"
    return "paint" if isinstance(job, PaintJob) else "safety"
