"""Engines for tests of the bus and the worker: no model, told by each job what to do.

A job's question (chat) or prompt (paint) is `VERB ARGUMENT`:
    echo TEXT    answers TEXT in one step
    stream N     N words in N steps, each of VISCPM_TEST_STEP_S seconds; the same for the same N
    differ N     the same, with words that no other process says
    turn TEXT    TEXT written backwards, a word in each step
    die          ends its process in its first step
    die-once F   the same, unless file F exists; makes it. Then goes on as `stream 4`
    hang S       one step of S seconds, then answers
    raise        its step raises
    oom          its step raises while another job is admitted, and answers when it is alone
    reject       is refused
    paint N      N denoising steps, a preview in each
Each event of an engine's life is a line in the file VISCPM_TEST_LOG: `PID WHAT JOB`.
"""

import os
import re
import time
from collections.abc import Iterator

from models.jobs import (
    Candidate,
    ChatJob,
    ChatResult,
    Delta,
    Engine,
    EngineConfig,
    EngineEvent,
    Generated,
    ImageEmbeddingsComputed,
    Job,
    JobRejected,
    ModelDescription,
    Observe,
    PaintResult,
    Progress,
)

PREVIEW = b"preview" * 2000  # larger than what an inbox takes inline


class OutOfMemoryError(RuntimeError):
    """Named as torch names its own."""


class ScriptedEngine:
    """Runs every admitted job one step further in each step."""

    def __init__(self, config: EngineConfig, observe: Observe) -> None:
        name, _, side_px = config.checkpoint.partition(":")  # a made-up checkpoint: its model's name and input size
        self.description = ModelDescription(
            kind=config.kind,
            name=name or "scripted",
            fingerprint=f"test{name}",
            image_size_px=int(side_px or 2),
            image_tokens=1,
        )
        self._max_jobs = config.max_jobs
        self._observe = observe
        self._jobs: dict[str, Iterator[list[EngineEvent]]] = {}
        self._states: dict[str, bytes] = {}
        self._step_s = float(os.environ.get("VISCPM_TEST_STEP_S", "0"))

    @property
    def capacity(self) -> int:
        return self._max_jobs - len(self._jobs)

    def image_key(self, job: Job) -> str | None:
        if isinstance(job, ChatJob) and job.image_key and job.image_key not in self._states:
            return job.image_key
        return None

    def admit(self, job: Job) -> None:
        assert self.capacity > 0, "admitted more than the engine has room for"
        text = job.question if isinstance(job, ChatJob) else job.prompt
        verb, _, argument = text.partition(" ")
        if verb == "reject":
            raise JobRejected("context_length_exceeded", "too long")
        write_log("admit", job.job_id)
        self._jobs[job.job_id] = self._run(job, verb, argument)

    def step(self) -> list[tuple[str, EngineEvent]]:
        if not self._jobs:
            return []
        if self._step_s:
            time.sleep(self._step_s)
        happened = []
        for job_id, run in list(self._jobs.items()):
            write_log("step", job_id)
            events = next(run)
            happened += [(job_id, event) for event in events]
            if events and isinstance(events[-1], Generated):
                write_log("done", job_id)
                del self._jobs[job_id]
        return happened

    def cancel(self, job_id: str) -> None:
        if self._jobs.pop(job_id, None) is not None:
            write_log("cancel", job_id)

    def _run(self, job: Job, verb: str, argument: str) -> Iterator[list[EngineEvent]]:
        if verb == "die" or (verb == "die-once" and not os.path.exists(argument)):
            if verb == "die-once":
                open(argument, "w").close()
                yield [Delta(token_ids=[0], text="w0 ", offset_chars=0)]
                time.sleep(0.1)  # the first word is on its way
            os._exit(9)
        if verb == "hang":
            time.sleep(float(argument))
        if verb == "raise":
            raise ValueError("as told")
        if verb == "oom" and len(self._jobs) > 1:
            raise OutOfMemoryError("as told")
        if verb == "paint":
            yield from self._paint(int(argument))
            return
        words: list[str] = []
        if verb in ("stream", "differ", "die-once"):
            suffix = f"-{os.getpid()}" if verb == "differ" else ""
            for i in range(int(argument) if verb != "die-once" else 4):
                words.append(f"w{i}{suffix} ")
                yield [Delta(token_ids=[i], text=words[-1], offset_chars=sum(map(len, words[:-1])))]
        for i, word in enumerate(re.findall(r"\S+\s*", argument[::-1]) if verb == "turn" else ()):
            words.append(word)
            yield [Delta(token_ids=[i], text=word, offset_chars=sum(map(len, words[:-1])))]
        answer = "".join(words) or argument
        yield [*self._look(job), Generated(result=self._result(job, answer, len(words)))]

    def _look(self, job: Job) -> list[EngineEvent]:
        """As the chat engine does: a state brought along, or held here, or computed."""
        if not isinstance(job, ChatJob) or not job.image_key:
            return []
        self._observe("vision_cache_query", 1)
        if job.image_embeddings or job.image_key in self._states:
            self._observe("vision_cache_hit", 1)
            return []
        self._observe("vision_tower_s", 0.01)
        return [ImageEmbeddingsComputed(key=job.image_key, data=b"state of " + job.image_key.encode())]

    def _result(self, job: Job, answer: str, tokens: int) -> ChatResult:
        self._observe("generation_tokens", tokens)
        is_cached = isinstance(job, ChatJob) and bool(job.image_embeddings)
        return ChatResult(
            answer=answer,
            answer_escaped=answer,
            finish_reason="stop",
            prompt_tokens=1,
            image_tokens=0,
            completion_tokens=tokens,
            token_ids=list(range(tokens)),
            vision_cached=is_cached,
        )

    def _paint(self, steps: int) -> Iterator[list[EngineEvent]]:
        for step in range(1, steps + 1):
            self._observe("denoise_step_s", 0.01)
            yield [Progress(step=step, total_steps=steps, preview_png=PREVIEW)]
        pictures = [Candidate(png=b"png" * 100_000, seed=i) for i in range(2)]
        yield [Generated(result=PaintResult(candidates=pictures, prompt_tokens=1, height_px=64, width_px=64))]


class BreakingEngine(ScriptedEngine):
    """Breaks for good where its checkpoint says, outside of a step, once a job says `break` (capacity: is done)."""

    def __init__(self, config: EngineConfig, observe: Observe) -> None:
        super().__init__(config, observe)
        self._where = config.checkpoint
        self._is_broken = False

    @property
    def capacity(self) -> int:
        if self._is_broken and self._where == "capacity":
            raise RuntimeError("no capacity")
        return super().capacity

    def image_key(self, job: Job) -> str | None:
        self._is_broken = self._is_broken or "break" in job.question  # type: ignore[union-attr]
        if self._is_broken and self._where == "image_key":
            raise SystemExit("no key")  # not an Exception: no failure of one job
        return super().image_key(job)

    def admit(self, job: Job) -> None:
        if self._is_broken and self._where == "admit":
            raise KeyboardInterrupt
        super().admit(job)

    def cancel(self, job_id: str) -> None:
        if self._is_broken and self._where == "cancel":
            raise RuntimeError("cannot forget it")
        super().cancel(job_id)


class LosingEngine(ScriptedEngine):
    """Loses for good what it has beside it once a job says `lose`, and hangs in its next step."""

    failure = ""

    def step(self) -> list[tuple[str, EngineEvent]]:
        if self.failure:
            time.sleep(120)
        return super().step()

    def admit(self, job: Job) -> None:
        super().admit(job)
        if isinstance(job, ChatJob) and "lose" in job.question:
            self.failure = "rank 1 is gone"

    def close(self) -> None:
        write_log("close", "")


def create_engine(config: EngineConfig, observe: Observe) -> Engine:
    write_log("load", str(config.kind))
    write_log("waiting", os.environ.get("OMP_WAIT_POLICY", ""))
    return ScriptedEngine(config, observe)


def create_breaking(config: EngineConfig, observe: Observe) -> Engine:
    return BreakingEngine(config, observe)


def create_losing(config: EngineConfig, observe: Observe) -> Engine:
    return LosingEngine(config, observe)


def create_slowly(config: EngineConfig, observe: Observe) -> Engine:
    """Takes longer than any test waits."""
    write_log("load", str(config.kind))
    time.sleep(120)
    return ScriptedEngine(config, observe)


def fail_to_create(config: EngineConfig, observe: Observe) -> Engine:
    raise ValueError(f"{config.checkpoint}: no key `llm.input_embedding.weight`\nand 3 more")


def write_log(what: str, job_id: str) -> None:
    path = os.environ.get("VISCPM_TEST_LOG")
    if path:
        with open(path, "a") as log:
            log.write(f"{os.getpid()} {what} {job_id}\n")
