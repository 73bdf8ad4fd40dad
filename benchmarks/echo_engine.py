"""An engine that answers every question with the question: what is left is the service's own work."""

from models.jobs import ChatJob, ChatResult, EngineConfig, EngineEvent, Generated, Job, ModelDescription, Observe


class EchoEngine:
    """Answers all admitted jobs in one step."""

    def __init__(self, config: EngineConfig) -> None:
        self.description = ModelDescription(
            kind=config.kind, name="echo", fingerprint="echo", image_size_px=224, image_tokens=64
        )
        self._max_jobs = config.max_jobs
        self._jobs: dict[str, str] = {}

    @property
    def capacity(self) -> int:
        return self._max_jobs - len(self._jobs)

    def image_key(self, job: Job) -> str | None:
        return None

    def admit(self, job: Job) -> None:
        assert isinstance(job, ChatJob)
        self._jobs[job.job_id] = job.question

    def step(self) -> list[tuple[str, EngineEvent]]:
        answered: list[tuple[str, EngineEvent]] = [
            (
                job_id,
                Generated(
                    result=ChatResult(
                        answer=question,
                        answer_escaped=question,
                        finish_reason="stop",
                        prompt_tokens=1,
                        image_tokens=0,
                        completion_tokens=1,
                        token_ids=[1],
                    )
                ),
            )
            for job_id, question in self._jobs.items()
        ]
        self._jobs.clear()
        return answered

    def cancel(self, job_id: str) -> None:
        self._jobs.pop(job_id, None)


def create_engine(config: EngineConfig, observe: Observe) -> EchoEngine:
    return EchoEngine(config)
