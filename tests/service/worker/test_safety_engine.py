"""The screens as an engine of the worker program: jobs in, findings out."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from models.jobs import EngineConfig, EngineEvent, Failed, Generated, JobRejected, SafetyJob, SafetyResult
from safety.engine import SafetyEngine
from safety.loading import ScreenFolders
from safety.text.language import Language
from service.worker.safety_engine import ScreeningEngine, create_engine

ROOT = Path(__file__).parents[3]
RED, BLUE = bytes((255, 0, 0)), bytes((0, 0, 255))


class RedScreen:
    """How red the first pixel is; remembers its batches."""

    name, fingerprint = "open-nsfw", "weights"
    batches: list[int]

    def __init__(self) -> None:
        self.batches = []

    def scores(self, pictures: Sequence[Image.Image]) -> list[dict[str, float]]:
        self.batches.append(len(pictures))
        return [{"sexual": picture.getpixel((0, 0))[0] / 255} for picture in pictures]  # type: ignore[index]


class Guard:
    """Finds all unsafe, and says nothing of `?`."""

    name, fingerprint = "qwen3guard", "weights"
    languages: frozenset[Language] = frozenset(("en",))
    roles: list[str]

    def __init__(self) -> None:
        self.roles = []

    def scores(self, texts: Sequence[str], roles: Sequence[str]) -> list[dict[str, float] | None]:
        self.roles += roles
        return [None if "?" in text else {"unsafe": 1.0} for text in texts]


@pytest.fixture
def screen() -> RedScreen:
    return RedScreen()


@pytest.fixture
def guard() -> Guard:
    return Guard()


@pytest.fixture
def observed() -> dict[str, float]:
    return {}


@pytest.fixture
def engine(screen: RedScreen, guard: Guard, observed: dict[str, float]) -> ScreeningEngine:
    return ScreeningEngine(SafetyEngine([screen], [guard], max_jobs=3), "cpu", observed.__setitem__)


def told(engine: ScreeningEngine, num_jobs: int) -> dict[str, EngineEvent]:
    events: dict[str, EngineEvent] = {}
    while len(events) < num_jobs:
        events.update(engine.step())
    return events


def picture(job_id: str, colour: bytes) -> SafetyJob:
    return SafetyJob(job_id=job_id, content_key=colour.hex(), pixels=colour * 6, width_px=3, height_px=2)


def test_it_describes_itself_by_its_screens(engine: ScreeningEngine) -> None:
    described = engine.description
    assert (described.kind, described.name) == ("safety", "open-nsfw+qwen3guard")
    assert described.screens == ["open-nsfw", "qwen3guard"] and described.fingerprint and not described.untrained


def test_what_is_configured_is_what_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def load_engine(folders: ScreenFolders, max_jobs: int) -> SafetyEngine:
        asked.append((folders, max_jobs))
        return SafetyEngine([RedScreen()])

    monkeypatch.setattr("safety.loading.load_engine", load_engine)
    config = EngineConfig(
        kind="safety",
        checkpoint="c",
        image_classifier="i",
        prompt_checker="p",
        prompt_checker_label="l",
        device="cpu",
        guard="g",
        guard_adapter="polyguard",
        guard_device="cuda",
        guard_dtype="bfloat16",
        guard_batch_tokens=512,
        max_jobs=3,
    )
    assert create_engine(config, lambda name, value: None).description.device == "cpu"
    assert asked == [(ScreenFolders("c", "i", "p", "l", "cpu", "g", "polyguard", "cuda", "bfloat16", 512), 3)]


def test_what_was_admitted_is_judged_in_one_batch(
    engine: ScreeningEngine, screen: RedScreen, observed: dict[str, float]
) -> None:
    assert engine.image_key(picture("a", RED)) is None and engine.capacity == 3
    engine.admit(picture("a", RED))
    engine.admit(picture("b", BLUE))
    assert engine.capacity == 1
    scores = {}
    for job_id, event in told(engine, 2).items():
        assert isinstance(event, Generated) and isinstance(event.result, SafetyResult)
        assert event.result.fingerprint == engine.description.fingerprint
        [finding] = event.result.findings
        scores[job_id] = (finding.screen, finding.scores)
    assert scores == {"a": ("open-nsfw", {"sexual": 1.0}), "b": ("open-nsfw", {"sexual": 0.0})}
    assert screen.batches == [2] and observed["contents_judged"] == 2 and observed["screens_s"] >= 0
    assert engine.step() == [] and engine.capacity == 3


def test_a_text_goes_to_the_guard_as_who_said_it(
    engine: ScreeningEngine, guard: Guard, observed: dict[str, float]
) -> None:
    engine.admit(SafetyJob(job_id="a", content_key="k", text="a cat"))
    engine.admit(SafetyJob(job_id="b", content_key="l", text="a cat", is_answer=True))
    events = told(engine, 2)
    assert guard.roles == ["user", "assistant"] and observed["guard_s"] >= 0 and "screens_s" not in observed
    assert isinstance(events["a"], Generated) and isinstance(events["a"].result, SafetyResult)
    [finding] = events["a"].result.findings
    assert (finding.screen, finding.version, finding.scores) == ("qwen3guard", "weights", {"unsafe": 1.0})


def test_a_text_without_a_judgement_fails_and_no_other(engine: ScreeningEngine) -> None:
    engine.admit(SafetyJob(job_id="a", content_key="k", text="a cat?"))
    engine.admit(SafetyJob(job_id="b", content_key="l", text="a cat"))
    events = told(engine, 2)
    failed = events["a"]
    assert isinstance(failed, Failed) and failed.code == "safety_unavailable" and "qwen3guard" in failed.message
    assert isinstance(events["b"], Generated)


def test_what_no_screen_here_can_judge_is_rejected_not_passed(engine: ScreeningEngine) -> None:
    with pytest.raises(JobRejected, match="no screen configured") as rejected:
        engine.admit(SafetyJob(job_id="a", content_key="k", text="一只猫"))
    assert rejected.value.code == "safety_unavailable"
    assert engine.step() == [] and engine.capacity == 3


def test_a_cancelled_content_is_not_judged(engine: ScreeningEngine, screen: RedScreen) -> None:
    engine.admit(picture("a", RED))
    engine.cancel("a")
    engine.cancel("unknown")
    assert engine.step() == [] and screen.batches == []


def test_the_screens_libraries_are_loaded_with_the_engine_alone() -> None:
    code = "import sys, service.worker.safety_engine; sys.exit('onnxruntime' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
