"""The gate: judges what goes into a model and what comes out of it, and does nothing else.

Covered: every text and picture of a job's inputs; answers, streamed sentences, previews and candidates, as they are
shown to it. A screen that fails lets nothing pass.
Not covered: what a screen fails to see. Who must ask the gate is not its business: service/jobs/gated_queue.py is the
only way from a route to a model.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Protocol

from safety.contents import Inputs, Moderated, Output
from safety.verdict import Picture, ScreenOffline, Screens, Stage, Verdict

_TEXTS_AT_ONCE = 16


class ScreenFailed(Exception):
    """A screen gave no verdict.

    Args:
        is_temporary: the screen is away for now, and may judge when it is asked again.
    """

    def __init__(self, message: str, is_temporary: bool = False) -> None:
        super().__init__(message)
        self.is_temporary = is_temporary


class VerdictNotRecorded(ScreenOffline):
    """An observer had to keep a verdict and could not, for now: the verdict does not count."""


class Observer(Protocol):
    """Told of everything that is judged, for metrics and the audit log."""

    async def judged(self, job_id: str, verdict: Verdict) -> None:
        """Raises VerdictNotRecorded where nothing may pass that was not kept."""

    def failed(self, job_id: str, stage: Stage, error: Exception) -> None: ...


class Gate:
    """Asks the screens. Every call raises ScreenFailed where one of them gives no verdict.

    Args:
        observer: told every verdict, and where there was none.
    """

    def __init__(self, screens: Screens, observer: Observer | None = None) -> None:
        self._screens = screens
        self._observer = observer
        self.is_open = screens.are_open  # nothing is judged, everything passes

    async def judge(self, job_id: str, stage: Stage, content: str | Picture, language: str = "") -> Verdict:
        """A verdict on one content. Raises ScreenFailed also where the gate is open: nobody would judge it."""
        if self.is_open:
            raise ScreenFailed("nothing is screened here: the safety gate is open")
        if isinstance(content, str):
            return await self._observed(job_id, stage, self._screens.text(stage, content))
        return await self._observed(job_id, stage, self._screens.image(stage, content, language))

    async def moderate_inputs(self, job_id: str, inputs: Inputs) -> tuple[Verdict, ...]:
        """Texts first: they take less time, and a blocked one spares the picture's screening. None where it is open."""
        if self.is_open:
            return ()
        verdicts: list[Verdict] = []
        for first in range(0, len(inputs.texts), _TEXTS_AT_ONCE):
            verdicts += await self._judged_together(job_id, inputs.texts[first : first + _TEXTS_AT_ONCE])
        if inputs.picture is not None and not any(verdict.is_blocked for verdict in verdicts):
            language = verdicts[0].language if verdicts else ""
            verdicts.append(await self.judge(job_id, "input_image", inputs.picture, language))
        return tuple(verdicts)

    async def moderate_output(self, job_id: str, output: Output) -> Moderated:
        """Candidates are screened best first until as many pass as are wanted."""
        if self.is_open:
            return Moderated(tuple(range(min(output.wanted, len(output.candidates)))))
        if output.answer is not None:
            verdict = await self.judge(job_id, "answer", output.answer)
            return Moderated(blocked=verdict if verdict.is_blocked else None, verdicts=(verdict,))
        chosen: list[int] = []
        verdicts: list[Verdict] = []
        while len(chosen) < output.wanted and len(verdicts) < len(output.candidates):
            first = len(verdicts)
            pictures = [Picture(png, "png") for png in output.candidates[first : first + output.wanted - len(chosen)]]
            verdicts += await asyncio.gather(
                *(self.judge(job_id, "candidate", picture, output.language) for picture in pictures)
            )
            chosen += [place for place in range(first, len(verdicts)) if not verdicts[place].is_blocked]
        blocked = None if chosen or not verdicts else verdicts[-1]
        return Moderated(tuple(chosen), blocked, tuple(verdicts))

    async def _judged_together(self, job_id: str, texts: Sequence[tuple[Stage, str]]) -> list[Verdict]:
        if len(texts) == 1:  # most have one, which costs no task
            stage, text = texts[0]
            return [await self.judge(job_id, stage, text)]
        judging = []
        async with asyncio.TaskGroup() as group:  # a guard judges them as one batch
            for stage, text in texts:
                judging.append(group.create_task(self._tried(job_id, stage, text)))
                await asyncio.sleep(0)  # a talk has many texts: between two, other requests have their turn
        verdicts = []
        for task in judging:
            verdict = task.result()
            if isinstance(verdict, ScreenFailed):
                raise verdict
            verdicts.append(verdict)
        return verdicts

    async def _tried(self, job_id: str, stage: Stage, text: str) -> Verdict | ScreenFailed:
        """A failure as a result, so that one does not end the others, which are observed as well."""
        try:
            return await self.judge(job_id, stage, text)
        except ScreenFailed as failed:
            return failed

    async def _observed(self, job_id: str, stage: Stage, judging: Awaitable[Verdict]) -> Verdict:
        try:
            verdict = await judging
            if self._observer is not None:
                await self._observer.judged(job_id, verdict)
        except Exception as error:
            if self._observer is not None:
                self._observer.failed(job_id, stage, error)
            message = f"the screen of the {stage} gave no verdict ({type(error).__name__})"
            if isinstance(error, VerdictNotRecorded):
                message = f"the verdict on the {stage} could not be recorded, and none counts that is not"
            raise ScreenFailed(message, is_temporary=isinstance(error, ScreenOffline)) from error
        return verdict
