"""The safety worker's engine with screens that remember: each content once, all screens, no finding without them."""

import threading
import time
from collections.abc import Callable, Sequence

import pytest
from PIL import Image

from safety.engine import Content, Judgement, SafetyEngine, Undecided
from safety.image.screen import Pixels
from safety.text.language import Language
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
    """A text screen of Chinese that finds all unsafe, and says nothing of what holds `?`."""

    languages: frozenset[Language] = frozenset(("zh",))

    def __init__(
        self, fingerprint: str = "1", name: str = "prompt-checker", wait: Callable[[], object] = lambda: None
    ) -> None:
        self.fingerprint, self.name = fingerprint, name
        self.seen: list[tuple[str, str]] = []
        self._wait = wait

    def scores(self, texts: Sequence[str], roles: Sequence[str]) -> list[dict[str, float] | None]:
        self._wait()
        self.seen += zip(texts, roles, strict=True)
        return [None if "?" in text else {"unsafe": 0.9} for text in texts]


class Guard(Checker):
    languages: frozenset[Language] = frozenset(("en", "zh"))


def judged(engine: SafetyEngine, num_contents: int) -> dict[str, Judgement]:
    """What comes of so many contents, in as many steps as it takes."""
    found: dict[str, Judgement] = {}
    ends_s = time.monotonic() + 20
    while len(found) < num_contents and time.monotonic() < ends_s:
        found.update(engine.step())
    return found


def test_every_screen_judges_every_picture_once_and_side_by_side() -> None:
    meet = threading.Barrier(2)
    screens = [ColourScreen("a", meet), ColourScreen("b", meet)]
    engine = SafetyEngine(screens, max_jobs=4)
    for job_id, key, pixels in (("1", "red", RED), ("2", "blue", BLUE), ("3", "red", RED)):
        engine.admit(job_id, Content(key, pixels))
    assert engine.capacity == 1
    found = judged(engine, 3)
    assert found["1"] == found["3"] == [Finding("a", {"sexual": 1.0}, "1"), Finding("b", {"sexual": 1.0}, "1")]
    assert found["2"] == [Finding("a", {"sexual": 0.0}, "1"), Finding("b", {"sexual": 0.0}, "1")]
    assert [screen.seen for screen in screens] == [[2], [2]]
    assert engine.capacity == 4 and engine.step() == []


def test_what_was_cancelled_is_not_judged() -> None:
    screen = ColourScreen("a")
    engine = SafetyEngine([screen])
    engine.admit("1", Content("red", RED))
    engine.admit("2", Content("blue", BLUE))
    engine.cancel("1")
    engine.cancel("unknown")
    assert list(judged(engine, 1)) == ["2"] and screen.seen == [1]


def test_one_broken_screen_is_no_finding_at_all() -> None:
    engine = SafetyEngine([ColourScreen("a"), Broken("b")])
    engine.admit("1", Content("red", RED))
    with pytest.raises(RuntimeError, match="broken"):
        judged(engine, 1)
    engine.cancel("1")
    assert engine.capacity == 16


def test_texts_go_to_the_screens_of_their_language_alone() -> None:
    screen, checker, guard = ColourScreen("a"), Checker(), Guard("2", "qwen3guard")
    engine = SafetyEngine([screen], [checker, guard])
    engine.admit("1", Content("t", text="一"))
    engine.admit("2", Content("red", RED))
    engine.admit("3", Content("u", text="one", role="assistant"))
    checked, guarded = Finding("prompt-checker", {"unsafe": 0.9}, "1"), Finding("qwen3guard", {"unsafe": 0.9}, "2")
    assert judged(engine, 3) == {"1": [checked, guarded], "2": [Finding("a", {"sexual": 1.0}, "1")], "3": [guarded]}
    assert checker.seen == [("一", "user")] and guard.seen == [("一", "user"), ("one", "assistant")]
    assert screen.seen == [1] and engine.names == ["a", "prompt-checker", "qwen3guard"]


def test_a_text_without_a_judgement_fails_alone() -> None:
    engine = SafetyEngine([], [Checker(), Guard("2", "qwen3guard")])
    engine.admit("1", Content("t", text="一?"))
    engine.admit("2", Content("u", text="二"))
    found = judged(engine, 2)
    assert found["1"] == Undecided(("prompt-checker", "qwen3guard"))
    assert isinstance(found["2"], list) and len(found["2"]) == 2


def test_pictures_do_not_wait_for_a_slow_guard() -> None:
    going_on = threading.Event()
    screen, guard = ColourScreen("a"), Guard(wait=lambda: going_on.wait(20))
    engine = SafetyEngine([screen], [guard])
    engine.admit("1", Content("t", text="one"))
    assert engine.step() == []
    for number in range(3):
        engine.admit(f"p{number}", Content(f"red{number}", RED))
        assert list(judged(engine, 1)) == [f"p{number}"] and set(engine.batch_s) == {"pictures"}
    engine.admit("2", Content("u", text="two"))  # waits for its turn, and can be taken back
    engine.cancel("2")
    assert engine.capacity == 15
    going_on.set()
    assert list(judged(engine, 1)) == ["1"] and guard.seen == [("one", "user")] and engine.batch_s["texts"] > 0


@pytest.mark.slow
def test_a_guard_that_hangs_is_a_step_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that who watches the steps ends the process."""
    monkeypatch.setattr("safety.engine._PATIENCE_S", 0.1)
    going_on = threading.Event()
    engine = SafetyEngine([], [Guard(wait=lambda: going_on.wait(20))])
    engine.admit("1", Content("t", text="one"))
    began_s = time.monotonic()
    while time.monotonic() - began_s < 0.1:
        assert engine.step() == []
    threading.Timer(0.5, going_on.set).start()
    assert list(dict(engine.step())) == ["1"] and time.monotonic() - began_s >= 0.5


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (Content("t", text="一"), r"no screen configured for its language \(zh\)"),
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


def test_the_text_screens_count_as_every_screen_does() -> None:
    """Or what old weights found would be kept for a day under the new ones."""
    screens = [ColourScreen("a")]
    checkers: list[list[Checker]] = [[], [Checker("weights 1")], [Checker("weights 2")], [Guard("weights 1", "guard")]]
    assert len({SafetyEngine(screens, checker).fingerprint for checker in checkers}) == 4
    assert SafetyEngine(screens, [Checker("weights 1")]).fingerprint == SafetyEngine(screens, checkers[1]).fingerprint
