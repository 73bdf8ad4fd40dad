"""An engine around a tiny random Chat model that keeps what it is told."""

from collections.abc import Callable

import pytest

from models.checkpoints.loading import LoadedChat
from models.engines.chat.engine import ChatEngine
from models.jobs import ChatJob, ChatResult, Delta, EngineEvent, Failed, Generated
from models.networks.cpm_bee.tokenizer import unescape


class Bench:
    """An engine, what it observed, and every event that its steps gave."""

    def __init__(self, loaded: LoadedChat, max_jobs: int = 4, num_blocks: int = 200) -> None:
        self.observed: dict[str, list[float]] = {}
        self.events: list[tuple[str, EngineEvent]] = []
        self.open: set[str] = set()
        self.engine = ChatEngine(loaded, "tiny", max_jobs, self._observe, num_blocks)

    def admit(self, *jobs: ChatJob) -> None:
        for job in jobs:
            self.engine.admit(job)
            self.open.add(job.job_id)

    def step(self) -> list[tuple[str, EngineEvent]]:
        events = self.engine.step()
        self.events += events
        self.open -= {job_id for job_id, event in events if isinstance(event, Generated | Failed)}
        return events

    def finish(self, *jobs: ChatJob) -> None:
        """Admits jobs and steps until all in progress have ended."""
        self.admit(*jobs)
        for _ in range(1000):
            if not self.open:
                return
            self.step()
        raise AssertionError(f"{self.open} never ended")

    def run(self, job: ChatJob) -> ChatResult:
        """The result of a job that has the engine to itself."""
        self.finish(job)
        return self.result(job.job_id)

    def result(self, job_id: str) -> ChatResult:
        ending = self.ending(job_id)
        assert isinstance(ending, Generated), ending
        assert isinstance(ending.result, ChatResult)
        return ending.result

    def failure(self, job_id: str) -> Failed:
        ending = self.ending(job_id)
        assert isinstance(ending, Failed), ending
        return ending

    def ending(self, job_id: str) -> EngineEvent:
        endings = [e for owner, e in self.events if owner == job_id and isinstance(e, Generated | Failed)]
        assert len(endings) == 1
        return endings[0]

    def deltas(self, job_id: str) -> list[Delta]:
        return [event for owner, event in self.events if owner == job_id and isinstance(event, Delta)]

    def text_of(self, ids: list[int]) -> str:
        """Of ids without own words of the prompt, as they are displayed."""
        tokenizer = self.engine._loaded.tokenizer
        return unescape(tokenizer.decode(ids, {}))

    def count(self, name: str) -> int:
        return len(self.observed.get(name, []))

    def _observe(self, name: str, value: float) -> None:
        self.observed.setdefault(name, []).append(value)


@pytest.fixture
def make_bench(loaded: LoadedChat) -> Callable[..., Bench]:
    def make(max_jobs: int = 4, num_blocks: int = 200) -> Bench:
        return Bench(loaded, max_jobs, num_blocks)

    return make


@pytest.fixture
def bench(loaded: LoadedChat) -> Bench:
    return Bench(loaded)
