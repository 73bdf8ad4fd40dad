"""The safety worker's engine as the worker program wants it: jobs and events of the queue around safety.loading.

The screens' libraries are heavy and `safety` knows no job, so the one is loaded by name and the other translated here.
"""

import importlib
from typing import Any

from models.jobs import (
    Engine,
    EngineConfig,
    EngineEvent,
    Failed,
    Generated,
    Job,
    JobRejected,
    ModelDescription,
    Observe,
    SafetyJob,
    SafetyResult,
    ScreenFinding,
)
from safety.engine import Content, Judgement, SafetyEngine, Undecided
from safety.image.screen import Pixels
from safety.text.guards.adapter import Role

_OBSERVED = {"pictures": "screens_s", "texts": "guard_s"}  # by the kind of a batch


class ScreeningEngine:
    """Judges everything that was admitted, pictures and texts each as one batch."""

    def __init__(self, engine: SafetyEngine, device: str, observe: Observe) -> None:
        self._engine = engine
        self._observe = observe
        self.description = ModelDescription(
            kind="safety",
            name="+".join(engine.names),
            fingerprint=engine.fingerprint,
            device=device,
            screens=engine.names,
        )

    @property
    def capacity(self) -> int:
        return self._engine.capacity

    def image_key(self, job: Job) -> str | None:
        return None

    def admit(self, job: Job) -> None:
        assert isinstance(job, SafetyJob)
        pixels = Pixels(job.pixels, job.width_px, job.height_px) if job.pixels else None
        role: Role = "assistant" if job.is_answer else "user"
        try:
            self._engine.admit(job.job_id, Content(job.content_key, pixels, job.text, role))
        except ValueError as error:
            raise JobRejected("safety_unavailable", str(error)) from error

    def step(self) -> list[tuple[str, EngineEvent]]:
        judged = self._engine.step()
        for kind, batch_s in self._engine.batch_s.items():
            self._observe(_OBSERVED[kind], batch_s)
        if judged:
            self._observe("contents_judged", len(judged))
        return [(job_id, self._event(found)) for job_id, found in judged]

    def cancel(self, job_id: str) -> None:
        self._engine.cancel(job_id)

    def _event(self, found: Judgement) -> EngineEvent:
        if isinstance(found, Undecided):
            names = ", ".join(found.screens)
            return Failed(code="safety_unavailable", message=f"what {names} said of the text could not be read")
        findings = [ScreenFinding(screen=one.screen, scores=one.scores, version=one.version) for one in found]
        return Generated(result=SafetyResult(findings=findings, fingerprint=self._engine.fingerprint))


def create_engine(config: EngineConfig, observe: Observe) -> Engine:
    loading: Any = importlib.import_module("safety.loading")
    folders = loading.ScreenFolders(
        image_checker=config.checkpoint,
        image_classifier=config.image_classifier,
        prompt_checker=config.prompt_checker,
        prompt_checker_label=config.prompt_checker_label,
        device=config.device,
        guard=config.guard,
        guard_adapter=config.guard_adapter or "qwen3guard",
        guard_device=config.guard_device,
        guard_dtype=config.guard_dtype,
        guard_batch_tokens=config.guard_batch_tokens,
    )
    return ScreeningEngine(loading.load_engine(folders, config.max_jobs), config.device, observe)
