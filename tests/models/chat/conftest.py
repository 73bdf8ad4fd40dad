"""A tiny random Chat model, and an engine around it that keeps what it is told."""

import string
from collections.abc import Callable

import pytest
import torch

from models.chat.config import ChatConfig
from models.chat.engine import ChatEngine
from models.checkpoint import LoadedChat
from models.cpm_bee.config import CPMBeeConfig
from models.cpm_bee.tokenizer import Tokenizer
from models.jobs import ChatJob, ChatResult, Delta, EngineEvent, Failed, Generated
from models.random_weights import random_chat
from models.vision.config import VisionConfig

SPECIAL = ["<pad>", "<unk>", "<mask>", "<sep>", "</n>", "</_>", "<s>", "</s>", "<root>", "<ans>", "<option>"]
VOCABULARY = [*SPECIAL, *string.ascii_letters, *string.punctuation, "image", "context", "question", "User", "AI", "图"]


@pytest.fixture(scope="session")
def loaded() -> LoadedChat:
    """Answers end by chance and hold `<` and unknown words, whose rows are enlarged."""
    config = ChatConfig(
        llm=CPMBeeConfig(len(VOCABULARY), dim_model=32, dim_ff=48, num_layers=2, num_heads=2, dim_head=16, half=False),
        vision=VisionConfig(
            32, patch_size_px=16, width=32, num_heads=2, dim_ff=48, num_layers=1, num_query_positions=8
        ),
        num_query_tokens=4,
    )
    model = random_chat(config, "cpu", torch.float32, seed=7)
    for name, scale in (("</s>", 1.7), ("<", 1.8), ("<unk>", 2.5)):
        model.llm.embedding.weight.data[VOCABULARY.index(name)] *= scale
    return LoadedChat(model, Tokenizer.from_entries(VOCABULARY), config, fingerprint="f1", untrained=True)


class Bench:
    """An engine, what it observed, and every event that its steps gave."""

    def __init__(self, loaded: LoadedChat, max_jobs: int = 4) -> None:
        self.observed: dict[str, list[float]] = {}
        self.events: list[tuple[str, EngineEvent]] = []
        self.open: set[str] = set()
        self.engine = ChatEngine(loaded, "tiny", max_jobs, self._observe)

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

    def count(self, name: str) -> int:
        return len(self.observed.get(name, []))

    def _observe(self, name: str, value: float) -> None:
        self.observed.setdefault(name, []).append(value)


@pytest.fixture
def make_bench(loaded: LoadedChat) -> Callable[..., Bench]:
    def make(max_jobs: int = 4) -> Bench:
        return Bench(loaded, max_jobs)

    return make


@pytest.fixture
def bench(loaded: LoadedChat) -> Bench:
    return Bench(loaded)
