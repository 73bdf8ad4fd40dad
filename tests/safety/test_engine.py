"""The safety worker's engine with screens that remember: each content once, all screens, no finding without them."""

import threading
from collections.abc import Sequence

import pytest
from PIL import Image

from safety.engine import Content, SafetyEngine, load_engine
from safety.image.screen import Pixels
from safety.verdict import Finding

RED, BLUE = Pixels(b"\xff\0\0", 1, 1), Pixels(b"\0\0\xff", 1, 1)


class ColourScreen:
    """Scores how red a picture is. `meet` waits for another screen that runs at the same time."""

    fingerprint = "1"

    def __init__(self, name: str, meet: threading.Barrier | None = None) -> None:
        self.name = name
        self.seen: list[int] = []
        self._meet = meet

    def scores(self, pictures: Sequence[Image.Image]) -> list[dict[str, float]]:
        self.seen.append(len(pictures))
        if self._meet is not None:
            self._meet.wait(10)
        return [{"sexual": picture.getpixel((0, 0))[0] / 255} for picture in pictures]  # type: ignore[index]


class Broken(ColourScreen):
    def scores(self, pictures: Sequence[Image.Image]) -> list[dict[str, float]]:
        raise RuntimeError("broken")


class Checker:
    def __init__(self, fingerprint: str = "1") -> None:
        self.fingerprint = fingerprint
        self.seen: list[str] = []

    def scores(self, texts: Sequence[str]) -> list[dict[str, float]]:
        self.seen += texts
        return [{"unsafe": 0.9} for _ in texts]


def test_every_screen_judges_every_picture_once_and_side_by_side() -> None:
    meet = threading.Barrier(2)
    screens = [ColourScreen("a", meet), ColourScreen("b", meet)]
    engine = SafetyEngine(screens, max_jobs=4)
    for job_id, key, pixels in (("1", "red", RED), ("2", "blue", BLUE), ("3", "red", RED)):
        engine.admit(job_id, Content(key, pixels))
    assert engine.capacity == 1
    found = dict(engine.step())
    assert found["1"] == found["3"] == [Finding("a", {"sexual": 1.0}), Finding("b", {"sexual": 1.0})]
    assert found["2"] == [Finding("a", {"sexual": 0.0}), Finding("b", {"sexual": 0.0})]
    assert [screen.seen for screen in screens] == [[2], [2]]
    assert engine.capacity == 4 and engine.step() == []


def test_what_was_cancelled_is_not_judged() -> None:
    screen = ColourScreen("a")
    engine = SafetyEngine([screen])
    engine.admit("1", Content("red", RED))
    engine.admit("2", Content("blue", BLUE))
    engine.cancel("1")
    engine.cancel("unknown")
    assert [job_id for job_id, _ in engine.step()] == ["2"] and screen.seen == [1]


def test_one_broken_screen_is_no_finding_at_all() -> None:
    engine = SafetyEngine([ColourScreen("a"), Broken("b")])
    engine.admit("1", Content("red", RED))
    with pytest.raises(RuntimeError, match="broken"):
        engine.step()


def test_texts_go_to_the_checker_alone() -> None:
    screen, checker = ColourScreen("a"), Checker()
    engine = SafetyEngine([screen], checker)
    engine.admit("1", Content("t", text="一"))
    engine.admit("2", Content("red", RED))
    assert dict(engine.step()) == {
        "1": [Finding("prompt-checker", {"unsafe": 0.9})],
        "2": [Finding("a", {"sexual": 1.0})],
    }
    assert checker.seen == ["一"] and screen.seen == [1] and engine.names == ["a", "prompt-checker"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (Content("t", text="一"), "no prompt checker"),
        (Content("p", Pixels(b"12345", 2, 1)), "5 bytes are no RGB picture of 2×1"),
        (Content("p", Pixels(b"", 0, 0)), "0 bytes"),
    ],
)
def test_what_cannot_be_judged_is_not_admitted(content: Content, message: str) -> None:
    engine = SafetyEngine([ColourScreen("a")])
    with pytest.raises(ValueError, match=message):
        engine.admit("1", content)
    assert engine.step() == []


def test_other_screens_have_another_fingerprint() -> None:
    assert SafetyEngine([ColourScreen("a")]).fingerprint != SafetyEngine([ColourScreen("b")]).fingerprint


def test_the_prompt_checker_counts_as_every_screen_does() -> None:
    """Or what old weights found would be kept for a day under the new ones."""
    screens = [ColourScreen("a")]
    checkers = [None, Checker("weights 1"), Checker("weights 2")]
    assert len({SafetyEngine(screens, checker).fingerprint for checker in checkers}) == 3
    assert SafetyEngine(screens, Checker("weights 1")).fingerprint == SafetyEngine(screens, checkers[1]).fingerprint


def test_the_engine_in_the_box_is_ready_to_judge() -> None:
    engine = load_engine()
    engine.admit("1", Content("grey", Pixels(b"\x80" * 3 * 40 * 30, 40, 30)))
    [(job_id, found)] = engine.step()
    assert job_id == "1" and [one.screen for one in found] == ["image-safety-classifier", "open-nsfw"] == engine.names


@pytest.mark.parametrize("checker", ["image_checker", "prompt_checker"])
def test_a_missing_folder_is_named(checker: str) -> None:
    with pytest.raises(ValueError, match="nowhere does not exist"):
        load_engine(**{checker: "nowhere"})  # type: ignore[arg-type]
