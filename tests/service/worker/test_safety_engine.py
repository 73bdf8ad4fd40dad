"""The screens as an engine of the worker program: jobs in, findings out."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from models.jobs import EngineConfig, Generated, JobRejected, SafetyJob, SafetyResult
from safety import engine as safety_engine
from service.worker.safety_engine import ScreeningEngine

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


class Screens:
    """What the engine loads by name: the real engine around one small screen."""

    Content = safety_engine.Content

    def __init__(self) -> None:
        self.screen = RedScreen()
        self.asked: tuple[object, ...] = ()

    def load_engine(self, *asked: object) -> safety_engine.SafetyEngine:
        self.asked = asked
        return safety_engine.SafetyEngine([self.screen], max_jobs=3)


@pytest.fixture
def screens() -> Screens:
    return Screens()


@pytest.fixture
def observed() -> dict[str, float]:
    return {}


@pytest.fixture
def engine(screens: Screens, observed: dict[str, float]) -> ScreeningEngine:
    config = EngineConfig(
        kind="safety", checkpoint="c", prompt_checker="p", prompt_checker_label="l", device="cpu", max_jobs=3
    )
    return ScreeningEngine(screens, config, observed.__setitem__)


def picture(job_id: str, colour: bytes) -> SafetyJob:
    return SafetyJob(job_id=job_id, content_key=colour.hex(), pixels=colour * 6, width_px=3, height_px=2)


def test_it_describes_itself_by_its_screens(engine: ScreeningEngine, screens: Screens) -> None:
    described = engine.description
    assert (described.kind, described.name, described.screens) == ("safety", "open-nsfw", ["open-nsfw"])
    assert described.fingerprint and not described.untrained
    assert screens.asked == ("c", "p", "l", "cpu", 3)


def test_what_was_admitted_is_judged_in_one_batch(
    engine: ScreeningEngine, screens: Screens, observed: dict[str, float]
) -> None:
    assert engine.image_key(picture("a", RED)) is None and engine.capacity == 3
    engine.admit(picture("a", RED))
    engine.admit(picture("b", BLUE))
    assert engine.capacity == 1
    told = dict(engine.step())
    scores = {}
    for job_id, event in told.items():
        assert isinstance(event, Generated) and isinstance(event.result, SafetyResult)
        assert event.result.fingerprint == engine.description.fingerprint
        [finding] = event.result.findings
        scores[job_id] = (finding.screen, finding.scores)
    assert scores == {"a": ("open-nsfw", {"sexual": 1.0}), "b": ("open-nsfw", {"sexual": 0.0})}
    assert screens.screen.batches == [2] and observed["contents_judged"] == 2 and observed["screens_s"] >= 0
    assert engine.step() == [] and engine.capacity == 3


def test_what_no_screen_here_can_judge_is_rejected_not_passed(engine: ScreeningEngine) -> None:
    with pytest.raises(JobRejected, match="checker") as rejected:
        engine.admit(SafetyJob(job_id="a", content_key="k", text="一只猫"))
    assert rejected.value.code == "safety_unavailable"
    assert engine.step() == [] and engine.capacity == 3


def test_a_cancelled_content_is_not_judged(engine: ScreeningEngine, screens: Screens) -> None:
    engine.admit(picture("a", RED))
    engine.cancel("a")
    engine.cancel("unknown")
    assert engine.step() == [] and screens.screen.batches == []


def test_the_screens_libraries_are_loaded_with_the_engine_alone() -> None:
    code = "import sys, service.worker.safety_engine; sys.exit('onnxruntime' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
