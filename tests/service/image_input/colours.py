"""A safety worker's engine that judges by a picture's first pixel; each content judged is a line `PID screen JOB`.

Red is sexual; blue ends the process; green takes longer than any deadline; everything else is harmless. A text with
`red` in it is unsafe.
"""

import os
import time

from models.jobs import (
    Engine,
    EngineConfig,
    EngineEvent,
    Generated,
    Job,
    ModelDescription,
    Observe,
    SafetyJob,
    SafetyResult,
    ScreenFinding,
)
from tests.service.engines import write_log

RED, GREEN, BLUE, GREY = (255, 0, 0), (0, 255, 0), (0, 0, 255), (128, 128, 128)


class ColourEngine:
    def __init__(self, config: EngineConfig) -> None:
        self.description = ModelDescription(kind="safety", name="colours", fingerprint="colours")
        self._max_jobs = config.max_jobs
        self._jobs: list[SafetyJob] = []

    @property
    def capacity(self) -> int:
        return self._max_jobs - len(self._jobs)

    def image_key(self, job: Job) -> str | None:
        return None

    def admit(self, job: Job) -> None:
        assert isinstance(job, SafetyJob)
        assert len(job.pixels) == job.width_px * job.height_px * 3 <= 512 * 512 * 3 and bool(job.pixels) != bool(
            job.text
        )
        self._jobs.append(job)

    def step(self) -> list[tuple[str, EngineEvent]]:
        jobs, self._jobs = self._jobs, []
        return [
            (job.job_id, Generated(result=SafetyResult(findings=_judge(job), fingerprint="colours"))) for job in jobs
        ]

    def cancel(self, job_id: str) -> None:
        self._jobs = [job for job in self._jobs if job.job_id != job_id]


def _judge(job: SafetyJob) -> list[ScreenFinding]:
    write_log("screen", job.job_id)
    if job.text:
        return [ScreenFinding(screen="prompt-checker", scores={"unsafe": 0.9 if "red" in job.text else 0.1})]
    red, green, blue = job.pixels[:3]
    if (red, green, blue) == BLUE:
        os._exit(9)
    if (red, green, blue) == GREEN:
        time.sleep(60)
    is_red = (red, green, blue) == RED
    return [
        ScreenFinding(screen="image-safety-classifier", scores={"sexual": 0.97 * is_red, "violence/graphic": 0.03}),
        ScreenFinding(screen="open-nsfw", scores={"sexual": 0.5}),
    ]


def create_engine(config: EngineConfig, observe: Observe) -> Engine:
    write_log("load", str(config.kind))
    return ColourEngine(config)
