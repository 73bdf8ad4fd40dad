"""An engine that answers in words at a steady pace: each is the time at which it was said, so that whoever gets it can
tell how long that took.

A question is `WORDS START`: how many, and from when on, by the clock that all processes of a machine share.
"""

import time

from models.jobs import (
    ChatJob,
    ChatResult,
    Delta,
    EngineConfig,
    EngineEvent,
    Generated,
    Job,
    ModelDescription,
    Observe,
)

INTERVAL_S = 0.2
_PHASES = 50
_REST_S = 0.002  # of a step in which nothing is due


class Answer:
    """One job: its words, and when the next is due."""

    def __init__(self, num_words: int, due_s: float) -> None:
        self.num_words = num_words
        self.words: list[str] = []
        self.num_chars = 0
        self.due_s = due_s

    def word(self, now_s: float) -> Delta:
        text = f"{now_s:.6f} "
        delta = Delta(token_ids=[len(self.words)], text=text, offset_chars=self.num_chars)
        self.words.append(text)
        self.num_chars += len(text)
        self.due_s += INTERVAL_S
        return delta

    def result(self) -> ChatResult:
        answer, tokens = "".join(self.words), list(range(len(self.words)))
        return ChatResult(
            answer=answer,
            answer_escaped=answer,
            finish_reason="stop",
            prompt_tokens=1,
            image_tokens=0,
            completion_tokens=len(tokens),
            token_ids=tokens,
        )


class TickingEngine:
    """Says the words that are due of all admitted jobs in each step."""

    def __init__(self, config: EngineConfig) -> None:
        self.description = ModelDescription(
            kind=config.kind, name="ticking", fingerprint="ticking", image_size_px=224, image_tokens=64
        )
        self._max_jobs = config.max_jobs
        self._answers: dict[str, Answer] = {}
        self._num_admitted = 0

    @property
    def capacity(self) -> int:
        return self._max_jobs - len(self._answers)

    def image_key(self, job: Job) -> str | None:
        return None

    def admit(self, job: Job) -> None:
        assert isinstance(job, ChatJob)
        num_words, start = job.question.split()
        self._num_admitted += 1
        phase_s = INTERVAL_S * (self._num_admitted % _PHASES) / _PHASES  # they do not all speak at once
        self._answers[job.job_id] = Answer(int(num_words), max(float(start), time.monotonic()) + phase_s)

    def step(self) -> list[tuple[str, EngineEvent]]:
        now_s = time.monotonic()
        events: list[tuple[str, EngineEvent]] = []
        for job_id, answer in list(self._answers.items()):
            if answer.due_s > now_s:
                continue
            if len(answer.words) < answer.num_words:
                events.append((job_id, answer.word(now_s)))
            else:
                events.append((job_id, Generated(result=answer.result())))
                del self._answers[job_id]
        if not events:
            time.sleep(_REST_S)
        return events

    def cancel(self, job_id: str) -> None:
        self._answers.pop(job_id, None)


def create_engine(config: EngineConfig, observe: Observe) -> TickingEngine:
    return TickingEngine(config)
