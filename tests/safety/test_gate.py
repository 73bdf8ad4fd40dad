"""The gate alone, with screens that judge by a word: what it asks them, in which order, and what it says."""

import asyncio

import pytest

from safety.contents import Inputs, Output
from safety.gate import Gate, ScreenFailed, VerdictNotRecorded
from safety.verdict import OpenScreens, Picture, ScreenOffline, Stage, Verdict


class WordScreens:
    """Blocks what holds `bad`, fails on what holds `crash`, is offline for `away`. Remembers what it saw."""

    are_open = False

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []
        self.languages: list[str] = []

    async def text(self, stage: Stage, text: str) -> Verdict:
        return self._judge(stage, text)

    async def image(self, stage: Stage, picture: Picture, language: str = "") -> Verdict:
        self.languages.append(language)
        return self._judge(stage, picture.data.decode())

    def _judge(self, stage: Stage, content: str) -> Verdict:
        self.seen.append((stage, content))
        if "away" in content:
            raise ScreenOffline("not here")
        if "crash" in content:
            raise RuntimeError("screen crashed")
        is_bad = "bad" in content
        return Verdict(stage, "block" if is_bad else "pass", {}, "words", language="zh" if "猫" in content else "")


class Observer:
    def __init__(self, is_full: bool = False) -> None:
        self.is_full = is_full
        self.told: list[tuple[str, str, str]] = []

    async def judged(self, job_id: str, verdict: Verdict) -> None:
        if self.is_full:
            raise VerdictNotRecorded("disk full")
        self.told.append((job_id, verdict.stage, verdict.decision))

    def failed(self, job_id: str, stage: Stage, error: Exception) -> None:
        self.told.append((job_id, stage, type(error).__name__))


async def test_all_inputs_are_seen_texts_first() -> None:
    screens = WordScreens()
    inputs = Inputs([("prompt", "a cat"), ("negative_prompt", "rain")], Picture(b"photo", "png"))
    verdicts = await Gate(screens).moderate_inputs("job", inputs)
    assert screens.seen == [("prompt", "a cat"), ("negative_prompt", "rain"), ("input_image", "photo")]
    assert [verdict.is_blocked for verdict in verdicts] == [False] * 3


async def test_a_blocked_text_spares_the_pictures_screening() -> None:
    screens = WordScreens()
    [verdict] = await Gate(screens).moderate_inputs("job", Inputs([("question", "bad")], Picture(b"photo", "png")))
    assert verdict.is_blocked and [stage for stage, _ in screens.seen] == ["question"]


async def test_candidates_are_screened_best_first_until_enough_pass() -> None:
    screens = WordScreens()
    candidates = (b"bad one", b"good one", b"bad two", b"good two", b"good three")
    moderated = await Gate(screens).moderate_output("job", Output(candidates=candidates, wanted=2))
    assert moderated.chosen == (1, 3) and moderated.blocked is None and len(moderated.verdicts) == 4
    assert [content for _, content in screens.seen] == ["bad one", "good one", "bad two", "good two"]


async def test_without_any_safe_candidate_the_last_verdict_stands_against_all() -> None:
    moderated = await Gate(WordScreens()).moderate_output("job", Output(candidates=(b"bad one", b"bad two"), wanted=2))
    assert moderated.chosen == () and moderated.blocked is not None and moderated.blocked.stage == "candidate"


async def test_an_answer_is_judged_as_a_whole() -> None:
    for answer, is_blocked in (("fine", False), ("bad", True)):
        moderated = await Gate(WordScreens()).moderate_output("job", Output(answer=answer))
        assert (moderated.blocked is not None) is is_blocked and len(moderated.verdicts) == 1


async def test_pictures_are_judged_for_the_language_of_the_request() -> None:
    screens = WordScreens()
    await Gate(screens).moderate_inputs("job", Inputs([("prompt", "一只猫")], Picture(b"photo", "png")))
    await Gate(screens).moderate_output("job", Output(candidates=(b"good",), language="zh"))
    assert screens.languages == ["zh", "zh"]


@pytest.mark.parametrize(("word", "is_temporary"), [("crash", False), ("away", True)])
async def test_a_screen_without_a_verdict_lets_nothing_pass(word: str, is_temporary: bool) -> None:
    gate = Gate(WordScreens())
    for moderating in (
        gate.moderate_inputs("job", Inputs([("question", word)])),
        gate.moderate_output("job", Output(answer=word)),
        gate.moderate_output("job", Output(candidates=(b"good", word.encode()), wanted=2)),
        gate.judge("job", "question", word),
    ):
        with pytest.raises(ScreenFailed) as caught:
            await moderating
        assert caught.value.is_temporary is is_temporary


async def test_everything_judged_is_told_with_its_job() -> None:
    observer = Observer()
    gate = Gate(WordScreens(), observer)
    await gate.moderate_inputs("job-1", Inputs([("prompt", "fine"), ("negative_prompt", "bad")]))
    assert (await gate.judge("modr-1", "question", "fine")).decision == "pass"
    assert (await gate.judge("modr-1", "input_image", Picture(b"bad", "png"))).is_blocked
    with pytest.raises(ScreenFailed):
        await gate.judge("modr-2", "question", "crash")
    assert observer.told == [
        ("job-1", "prompt", "pass"),
        ("job-1", "negative_prompt", "block"),
        ("modr-1", "question", "pass"),
        ("modr-1", "input_image", "block"),
        ("modr-2", "question", "RuntimeError"),
    ]


async def test_what_must_be_kept_and_cannot_be_does_not_pass() -> None:
    observer = Observer(is_full=True)
    gate = Gate(WordScreens(), observer)
    for moderating in (
        gate.moderate_inputs("job", Inputs([("question", "fine")])),
        gate.moderate_output("job", Output(candidates=(b"good",))),
    ):
        with pytest.raises(ScreenFailed, match="^the verdict on the .* could not be recorded") as caught:
            await moderating
        assert caught.value.is_temporary
    assert observer.told == [("job", "question", "VerdictNotRecorded"), ("job", "candidate", "VerdictNotRecorded")]


async def test_an_open_gate_judges_nothing_for_those_who_ask() -> None:
    gate = Gate(OpenScreens())
    assert gate.is_open
    assert await gate.moderate_inputs("job", Inputs([("question", "bad crash")])) == ()
    assert (await gate.moderate_output("job", Output(candidates=(b"bad",) * 3, wanted=2))).chosen == (0, 1)
    with pytest.raises(ScreenFailed, match="open"):
        await gate.judge("modr-1", "question", "fine")


async def test_between_two_texts_others_have_their_turn() -> None:
    seen: list[str] = []

    class Noting(WordScreens):
        async def text(self, stage: Stage, text: str) -> Verdict:
            seen.append(text)
            return await super().text(stage, text)

    async def other() -> None:
        for _ in range(4):
            seen.append("other")
            await asyncio.sleep(0)

    waiting = asyncio.create_task(other())
    await Gate(Noting()).moderate_inputs("job", Inputs([("question", "one"), ("question", "two")]))
    assert "other" in seen[seen.index("one") : seen.index("two")]
    await waiting


async def test_the_texts_of_a_talk_are_asked_about_at_the_same_time_and_told_in_order() -> None:
    """Or a guard would judge one after the other, and never a batch."""
    meeting = asyncio.Barrier(16)

    class Waiting(WordScreens):
        async def text(self, stage: Stage, text: str) -> Verdict:
            async with asyncio.timeout(5):
                await meeting.wait()
            return await super().text(stage, text)

    screens = Waiting()
    texts: list[tuple[Stage, str]] = [("question", f"{'bad ' * (place == 20)}{place}") for place in range(32)]
    verdicts = await Gate(screens).moderate_inputs("job", Inputs(texts))
    assert [place for place, verdict in enumerate(verdicts) if verdict.is_blocked] == [20] and len(verdicts) == 32


async def test_one_text_without_a_verdict_is_enough_and_the_others_are_observed() -> None:
    observer = Observer()
    with pytest.raises(ScreenFailed) as caught:
        await Gate(WordScreens(), observer).moderate_inputs("j", Inputs([("question", "away"), ("answer", "fine")]))
    assert caught.value.is_temporary and observer.told == [("j", "question", "ScreenOffline"), ("j", "answer", "pass")]
