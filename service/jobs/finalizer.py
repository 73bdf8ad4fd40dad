"""From a worker's result to the job's ending: the one way, for waiting requests, polls, resumed streams and sweeps.

A result is finalized by the process that holds its lease: the one that queued the job gets it with the result, any
other takes it when that one is gone. All who wait for one job in a process wait for one run, so nothing is screened,
labelled or encoded twice. A screen that is away for now is asked again until the job's deadline; then, and where a
screen is broken, the job fails: nothing leaves unscreened.
"""

import asyncio
import logging
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from models.jobs import ChatResult, Generated, PaintResult, decode_event
from safety.contents import Moderated
from safety.gate import Gate, ScreenFailed
from safety.verdict import Verdict
from service.core.backoff import Backoff
from service.core.current_request import work_for_key
from service.core.errors import BusUnavailable, ScreenUnavailable
from service.core.tasks import TaskSupervisor, stop_tasks
from service.image_output.ai_labels import AILabels
from service.jobs.answer_builder import chat_answer, moderation, paint_answer
from service.jobs.answers import (
    CONTENT_FILTER,
    Answer,
    Outcome,
    encode_answer,
    encode_summary,
    encode_verdicts,
    outcome_of,
)
from service.jobs.conversations import Conversations
from service.jobs.intents import (
    ChatIntent,
    Intent,
    PaintIntent,
    SafetyIntent,
    decode_intent,
    moderation_of,
    output_of,
    usage_of,
    with_model,
)
from service.queue.conversation_record import StoredTurn
from service.queue.producer import JobProducer
from service.queue.record import Ending, TurnAppend, UsageAppend, error_ending

_log = logging.getLogger(__name__)

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.1, 1.0  # between two tries of a screen that is away
_MAX_ADOPTED = 8  # abandoned results at once: each is held in memory meanwhile


class _LeaseLost(Exception):
    """The result is no longer this process': its job has ended, or another process is at it."""


class Finalizer:
    """One for each API process. Calls raise BusUnavailable where Redis does not serve them."""

    def __init__(
        self,
        producer: JobProducer,
        gate: Gate,
        conversations: Conversations,
        labels: AILabels,
        tasks: TaskSupervisor | None = None,
    ) -> None:
        self._producer = producer
        self._gate = gate
        self._conversations = conversations
        self._labels = labels
        self._tasks = tasks or TaskSupervisor("api")
        self._renew_s = producer.settings.lease_s / 3
        self._runs: dict[str, asyncio.Task[Outcome | None]] = {}  # by job id
        self._adopted: set[str] = set()  # by sweeps

    async def close(self) -> None:
        """What is not done is left to other processes, which take it at once when this one says that it leaves."""
        await stop_tasks(list(self._runs.values()))

    async def finalize(
        self,
        job_id: str,
        intent: Intent,
        generated: Generated,
        deadline_s: float | None,
        sent: str = "",
        is_shared: bool = True,
    ) -> Outcome | None:
        """The outcome of a result whose lease is this process', since it queued the job.

        Args:
            deadline_s: of the event loop's clock; None: one try.
            sent: what a client has been sent of the answer.
            is_shared: others wait for it too, so that it goes on where the caller leaves.
        """
        run = self._runs.get(job_id)
        if run is None and not is_shared:
            return await self._run(job_id, intent, generated, deadline_s, sent)
        if run is None:
            run = self._start(job_id, self._run(job_id, intent, generated, deadline_s, sent))
        return await asyncio.shield(run)

    async def adopt(self, job_id: str) -> Outcome | None:
        """The outcome of a result that is waiting for anybody; None: another process is at it, or there is none."""
        run = self._runs.get(job_id)
        if run is None:
            run = self._start(job_id, self._adopt(job_id))
        return await asyncio.shield(run)

    async def adopt_abandoned(self) -> int:
        """Begin to finalize results whose process is gone; how many. Waits for none: a screen may be away."""
        abandoned = [job_id for job_id in await self._producer.abandoned() if job_id not in self._runs]
        begun = abandoned[: _MAX_ADOPTED - len(self._adopted)]
        for job_id in begun:
            self._start(job_id, self._adopt(job_id))
        self._adopted |= set(begun)
        return len(begun)

    async def refuse_inputs(self, job_id: str, verdict: Verdict) -> None:
        """End a job that must not be queued."""
        message = verdict.message or f"the {verdict.stage.replace('_', ' ')} is not allowed here"
        body = encode_verdicts({"input": moderation_of([verdict])})
        await self._producer.finish(job_id, Ending("refused", "content_policy_violation", message, body))

    async def refuse_answer(self, job_id: str, intent: ChatIntent, verdict: Verdict, sent: str) -> Outcome:
        """End a job whose answer is blocked while it is still being written."""
        ending, answer, _ = self._chat_ending(
            job_id, intent, None, Moderated(blocked=verdict, verdicts=(verdict,)), sent
        )
        return await self._end(job_id, ending, answer)

    async def fail(self, job_id: str, code: str, message: str) -> bool:
        """End a job as its error wants it: refused, failed or cancelled. False: it had ended."""
        return await self._producer.finish(job_id, error_ending(code, message))

    def _start(self, job_id: str, run: Coroutine[Any, Any, Outcome | None]) -> "asyncio.Task[Outcome | None]":
        task = self._runs[job_id] = asyncio.create_task(run)
        task.add_done_callback(lambda done: self._done(job_id, done))
        return task

    def _done(self, job_id: str, run: "asyncio.Task[Outcome | None]") -> None:
        self._runs.pop(job_id, None)
        self._adopted.discard(job_id)
        if not run.cancelled():
            run.exception()  # seen, also where all who waited have left

    async def _adopt(self, job_id: str) -> Outcome | None:
        claim = await self._producer.claim_result(job_id)
        if claim is None:
            return None
        generated = decode_event(claim.generated)
        assert isinstance(generated, Generated)
        deadline_s = asyncio.get_running_loop().time() + claim.left_s
        return await self._run(job_id, decode_intent(claim.intent), generated, deadline_s, "")

    async def _run(
        self, job_id: str, intent: Intent, generated: Generated, deadline_s: float | None, sent: str
    ) -> Outcome | None:
        intent = with_model(intent, generated)
        if isinstance(intent, SafetyIntent):  # of a screening that nobody waits for any more
            return await self._end(job_id, Ending("done"), None)
        result = generated.result
        assert isinstance(result, ChatResult | PaintResult)
        work_for_key(intent.key_id)
        usage = usage_of(intent, result)
        with self._kept_lease(job_id):
            try:
                moderated = await self._moderated(job_id, intent, result, deadline_s)
                ending, answer, turn = await self._ending(job_id, intent, result, moderated, sent)
            except _LeaseLost:
                return await self._standing(job_id)
            except ScreenFailed as error:
                ending, answer, turn = Ending("failed", ScreenUnavailable.code, str(error)), None, None
            except Exception:
                _log.exception("job %s: no answer could be put together", job_id)
                ending = Ending("failed", "job_failed", f"job {job_id}: no answer could be put together")
                answer, turn = None, None
            return await self._end(job_id, ending, answer, turn, usage)

    async def _moderated(
        self, job_id: str, intent: ChatIntent | PaintIntent, result: ChatResult | PaintResult, deadline_s: float | None
    ) -> Moderated:
        """Raises ScreenFailed: a screen is broken, or still away at the deadline; and _LeaseLost meanwhile."""
        output = output_of(result, intent)
        backoff = Backoff(_FIRST_WAIT_S, _LONGEST_WAIT_S)
        while True:
            try:
                return await self._gate.moderate_output(job_id, output)
            except ScreenFailed as error:
                wait_s = backoff.next_s()
                left_s = 0.0 if deadline_s is None else deadline_s - asyncio.get_running_loop().time()
                if not error.is_temporary or left_s <= wait_s:
                    raise
                if backoff.failures == 1:
                    _log.warning("job %s waits for its screening: %s", job_id, error)
            await asyncio.sleep(wait_s)
            with suppress(BusUnavailable):
                if not await self._producer.renew_result(job_id):
                    raise _LeaseLost

    async def _ending(
        self,
        job_id: str,
        intent: ChatIntent | PaintIntent,
        result: ChatResult | PaintResult,
        moderated: Moderated,
        sent: str,
    ) -> tuple[Ending, Answer | None, TurnAppend | None]:
        if isinstance(intent, ChatIntent):
            assert isinstance(result, ChatResult)
            return self._chat_ending(job_id, intent, result, moderated, sent)
        assert isinstance(result, PaintResult)
        if moderated.blocked is not None:
            message = moderated.blocked.message or "no painted candidate may be shown"
            body = encode_verdicts(moderation(intent, moderated.verdicts) or {})
            return Ending("refused", "content_policy_violation", message, body), None, None
        answer = await paint_answer(job_id, intent, result, moderated.chosen, self._labels, moderated.verdicts)
        return Ending("done", body=encode_answer(answer)), answer, None

    def _chat_ending(
        self, job_id: str, intent: ChatIntent, result: ChatResult | None, moderated: Moderated, sent: str
    ) -> tuple[Ending, Answer, TurnAppend | None]:
        if moderated.blocked is not None:
            answer = chat_answer(job_id, intent, result, sent, CONTENT_FILTER, moderated.verdicts)
            message = moderated.blocked.message
            ending = Ending("refused", CONTENT_FILTER, message, encode_answer(answer), intent.told)
            return ending, answer, None
        assert result is not None
        answer = chat_answer(job_id, intent, result, result.answer, result.finish_reason, moderated.verdicts)
        ending = Ending("done", body=encode_answer(answer), told=intent.told)
        if not intent.conversation_id:
            return ending, answer, None
        turn = StoredTurn(
            question=intent.question,
            answer=result.answer,
            answer_escaped=result.answer_escaped,
            created=intent.created,
            finish_reason=result.finish_reason,
            seed=intent.seed,
            generation=intent.generation,
            told=intent.told,
            answered=encode_summary(answer) if intent.told else b"",
        )
        append = self._conversations.append(
            intent.tenant, intent.conversation_id, turn, intent.begun, intent.joined, intent.regenerates
        )
        return ending, answer, append

    async def _end(
        self,
        job_id: str,
        ending: Ending,
        answer: Answer | None,
        turn: TurnAppend | None = None,
        usage: UsageAppend | None = None,
    ) -> Outcome:
        """Write the ending; the one that stands, where the job had ended already."""
        if await self._producer.finish(job_id, ending, turn, usage):
            return Outcome(ending, answer)
        return await self._standing(job_id) or Outcome(ending, answer)

    async def _standing(self, job_id: str) -> Outcome | None:
        """The outcome of a job that has ended."""
        record = await self._producer.record(job_id)
        return None if record is None or record.ending is None else outcome_of(record.ending, record.kind)

    @contextmanager
    def _kept_lease(self, job_id: str) -> Iterator[None]:
        """Renew the lease of a run that takes longer than a part of it; a short one costs nothing."""
        renewing: asyncio.Task[None] | None = None

        def start() -> None:
            nonlocal renewing
            renewing = self._tasks.start("result_lease", lambda: self._keep_renewing(job_id))

        timer = asyncio.get_running_loop().call_later(self._renew_s, start)
        try:
            yield
        finally:
            timer.cancel()
            if renewing is not None:
                renewing.cancel()

    async def _keep_renewing(self, job_id: str) -> None:
        while True:
            with suppress(BusUnavailable):  # should it expire, another process may take it, and the first ending stands
                await self._producer.renew_result(job_id)
            await asyncio.sleep(self._renew_s)
