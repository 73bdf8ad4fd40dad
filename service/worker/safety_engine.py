"""The safety worker's engine as the worker program wants it: jobs and events of the queue around safety.engine.

The screens' libraries are heavy and `safety` knows no job, so the one is loaded by name and the other translated here.
"""

import importlib
import time
from collections.abc import Sequence
from typing import Any

from models.jobs import (
    Engine,
    EngineConfig,
    EngineEvent,
    Generated,
    Job,
    JobRejected,
    ModelDescription,
    Observe,
    SafetyJob,
    SafetyResult,
    ScreenFinding,
)
from safety.image.screen import Pixels
from safety.verdict import Finding


class ScreeningEngine:
    """Judges everything that was admitted in one step."""

    def __init__(self, module: Any, config: EngineConfig, observe: Observe) -> None:
        self._content = module.Content
        self._engine = module.load_engine(
            config.checkpoint, config.prompt_checker, config.prompt_checker_label, config.device, config.max_jobs
        )
        self._observe = observe
        self.description = ModelDescription(
            kind="safety",
            name="+".join(self._engine.names),
            fingerprint=self._engine.fingerprint,
            device=config.device,
            screens=self._engine.names,
        )

    @property
    def capacity(self) -> int:
        capacity: int = self._engine.capacity
        return capacity

    def image_key(self, job: Job) -> str | None:
        return None

    def admit(self, job: Job) -> None:
        assert isinstance(job, SafetyJob)
        pixels = Pixels(job.pixels, job.width_px, job.height_px) if job.pixels else None
        try:
            self._engine.admit(job.job_id, self._content(job.content_key, pixels, job.text))
        except ValueError as error:
            raise JobRejected("safety_unavailable", str(error)) from error

    def step(self) -> list[tuple[str, EngineEvent]]:
        began_s = time.monotonic()
        judged = self._engine.step()
        self._observe("screens_s", time.monotonic() - began_s)
        self._observe("contents_judged", len(judged))
        return [(job_id, Generated(result=self._result(found))) for job_id, found in judged]

    def cancel(self, job_id: str) -> None:
        self._engine.cancel(job_id)

    def _result(self, found: Sequence[Finding]) -> SafetyResult:
        findings = [ScreenFinding(screen=one.screen, scores=one.scores) for one in found]
        return SafetyResult(findings=findings, fingerprint=self._engine.fingerprint)


def create_engine(config: EngineConfig, observe: Observe) -> Engine:
    return ScreeningEngine(importlib.import_module("safety.engine"), config, observe)
