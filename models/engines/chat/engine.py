"""The chat worker's engine: jobs side by side on one model, each failing alone.

Every admitted job has its own cache and its own search; `step` advances each by one slice, so a cancel takes effect
within one decode step. Observed, by name:

    vision_cache_query, vision_cache_hit   1 each; a hit is a picture for which the tower did not run
    vision_tower_s                         tower and projector, one picture
    prefill_s                              one prompt
    decode_step_s                          one token of all beams of one job
    prompt_tokens, generation_tokens       of one job, once it has its answer
"""

import logging
from pathlib import Path
from time import perf_counter

import torch

from models.checkpoints.loading import LoadedChat, load_chat
from models.engines.chat.image_embeddings import ImageEmbeddingCache
from models.engines.chat.task import ChatRuntime, ChatTask
from models.engines.chat.vocabulary import NonFiniteLogits
from models.engines.device import usable_device
from models.engines.oom import is_out_of_memory, release_memory
from models.jobs import (
    ChatGeneration,
    ChatJob,
    EngineConfig,
    EngineEvent,
    Failed,
    Generated,
    Job,
    JobRejected,
    ModelDescription,
    Observe,
)
from models.networks.cpm_bee.folding import fold_scalings

logger = logging.getLogger(__name__)

IMAGE_EMBEDDINGS_BYTES = 64 * 2**20  # 128 pictures at the published sizes in half precision
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


class ChatEngine:
    """Implements models.jobs.Engine around one loaded, folded model."""

    def __init__(self, loaded: LoadedChat, name: str, max_jobs: int, observe: Observe) -> None:
        config, weights = loaded.config, loaded.model.query_tokens
        dtype = str(weights.dtype).removeprefix("torch.")
        self._runtime = ChatRuntime(
            model=loaded.model,
            tokenizer=loaded.tokenizer,
            image_embeddings=ImageEmbeddingCache(IMAGE_EMBEDDINGS_BYTES),
            key_prefix=f"{loaded.fingerprint}:{dtype}",
            observe=observe,
        )
        self._max_jobs = max_jobs
        self._tasks: dict[str, ChatTask] = {}
        self._description = ModelDescription(
            kind="chat",
            name=name,
            fingerprint=loaded.fingerprint,
            untrained=loaded.untrained,
            device=str(weights.device),
            dtype=dtype,
            parameters=sum(parameter.numel() for parameter in loaded.model.parameters()),
            image_size_px=config.image_size_px,
            image_tokens=config.num_query_tokens,
            image_embeddings_bytes=config.num_query_tokens * config.llm.dim_model * weights.dtype.itemsize,
        )

    @property
    def description(self) -> ModelDescription:
        return self._description

    @property
    def capacity(self) -> int:
        """None while a job waits to run alone, so that it gets its turn."""
        if any(task.is_retry for task in self._tasks.values()):
            return 0
        return self._max_jobs - len(self._tasks)

    def image_key(self, job: Job) -> str | None:
        """Name of its picture's embeddings, unless it has none or the engine holds it."""
        if not isinstance(job, ChatJob) or not job.has_image:
            return None
        key = self._runtime.image_key(job)
        return key if key and key not in self._runtime.image_embeddings else None

    def admit(self, job: Job) -> None:
        """Checks the job and builds its prompt; the first step prefills. A job admitted again begins again."""
        if not isinstance(job, ChatJob):
            raise JobRejected("invalid_request", f"a {type(job).__name__}, this worker takes ChatJob")
        if job.job_id not in self._tasks and len(self._tasks) >= self._max_jobs:
            raise JobRejected("job_failed", f"{self._max_jobs} jobs are in progress, which is all that are allowed")
        check_generation(job.generation)
        check_picture(job, self._description.image_size_px)
        task = ChatTask(job, self._runtime)
        self._end(job.job_id)
        self._tasks[job.job_id] = task

    def step(self) -> list[tuple[str, EngineEvent]]:
        """One slice of every job; jobs that ran out of memory wait until they are alone."""
        events: list[tuple[str, EngineEvent]] = []
        with torch.inference_mode():
            for job_id, task in self._runnable():
                for event in self._advance(task):
                    events.append((job_id, event))
                    if isinstance(event, Generated | Failed):
                        self._end(job_id)
        return events

    def cancel(self, job_id: str) -> None:
        self._end(job_id)

    def warm_up(self) -> None:
        """Runs a picture and a question through tower, prefill and both searches, so that no job pays for first calls.

        Raises:
            NonFiniteLogits, JobRejected: the weights cannot give an answer.
        """
        side = self._description.image_size_px
        runtime = ChatRuntime(
            model=self._runtime.model,
            tokenizer=self._runtime.tokenizer,
            image_embeddings=ImageEmbeddingCache(0),
            key_prefix=self._runtime.key_prefix,
            observe=lambda name, value: None,
        )
        for do_sample in (False, True):
            job = ChatJob(
                job_id="warm-up",
                question="What is in the picture? " * 4,
                pixels=bytes(3 * side * side),
                image_size_px=side,
                generation=ChatGeneration(max_new_tokens=4, do_sample=do_sample),
            )
            task = ChatTask(job, runtime)
            with torch.inference_mode():
                while not any(isinstance(event, Generated) for event in task.advance()):
                    pass
            task.close()

    def _end(self, job_id: str) -> None:
        """Forgets a job, if it is there, and frees what it holds."""
        task = self._tasks.pop(job_id, None)
        if task is not None:
            task.close()

    def _runnable(self) -> list[tuple[str, ChatTask]]:
        tasks = list(self._tasks.items())
        return [(job_id, task) for job_id, task in tasks if not task.is_retry] or tasks[:1]

    def _advance(self, task: ChatTask) -> list[EngineEvent]:
        """One slice of one job; what goes wrong is its own failure, except an accelerator that is lost to all."""
        try:
            return task.advance()
        except JobRejected as error:
            return [Failed(code=error.code, message=error.message)]
        except NonFiniteLogits as error:
            return [Failed(code="generation_failed", message=str(error))]
        except torch.AcceleratorError:
            raise
        except Exception as error:
            if not is_out_of_memory(error):
                logger.exception("job %s failed", task.job.job_id)
                return [Failed(code="job_failed", message=f"the model failed on this job: {type(error).__name__}")]
        # Only here is the exception, whose traceback holds the job's tensors, gone.
        return self._free_and_retry(task)

    def _free_and_retry(self, task: ChatTask) -> list[EngineEvent]:
        was_retry = task.is_retry
        task.restart()
        self._runtime.image_embeddings.clear()
        release_memory(self._runtime.device)
        if not was_retry:
            logger.warning("job %s ran out of memory; it is run again alone", task.job.job_id)
            return []
        generation = task.job.generation
        return [
            Failed(
                code="out_of_memory",
                message=f"not enough memory for {generation.num_beams} beams of {generation.max_new_tokens} new "
                "tokens, even with no other job in progress; ask for fewer",
            )
        ]


def check_generation(generation: ChatGeneration) -> None:
    """Raises JobRejected for a setting that no search can follow, or that float32 cannot hold."""
    window, penalty = generation.repetition_window, generation.repetition_penalty
    limits = [
        ("max_new_tokens", generation.max_new_tokens, generation.max_new_tokens >= 1, "at least 1"),
        ("num_beams", generation.num_beams, generation.num_beams >= 1, "at least 1"),
        ("temperature", generation.temperature, 1e-6 <= generation.temperature <= 1000, "0.000001 to 1000"),
        ("top_k", generation.top_k, generation.top_k >= 0, "at least 0"),
        ("top_p", generation.top_p, 0 < generation.top_p <= 1, "over 0 and at most 1"),
        ("repetition_penalty", penalty, 0.01 <= penalty <= 100, "0.01 to 100"),
        ("repetition_window", window, window is None or window >= 1, "at least 1"),
        ("length_penalty", generation.length_penalty, -100 <= generation.length_penalty <= 100, "-100 to 100"),
    ]
    for name, value, is_allowed, allowed in limits:
        if not is_allowed:
            raise JobRejected("invalid_request", f"{name} is {value}; it must be {allowed}")


def check_picture(job: ChatJob, image_size_px: int) -> None:
    """Raises JobRejected for pixels that are not a picture of the model's size."""
    if not job.pixels:
        return
    if job.image_size_px != image_size_px or len(job.pixels) != 3 * image_size_px**2:
        raise JobRejected(
            "invalid_request",
            f"a picture of {len(job.pixels)} bytes, said to be {job.image_size_px} px wide; this checkpoint takes "
            f"{image_size_px} px in RGB, {3 * image_size_px**2} bytes",
        )


def create_engine(config: EngineConfig, observe: Observe) -> ChatEngine:
    """Loads the checkpoint, folds its scalings and warms up.

    Raises:
        DeviceUnusable: torch cannot compute there.
        CheckpointError: anything wrong with the files.
        ValueError: an unknown dtype.
    """
    if config.dtype not in DTYPES:
        raise ValueError(f"dtype {config.dtype!r}; one of {', '.join(DTYPES)} is allowed")
    started_s = perf_counter()
    path = Path(config.checkpoint)
    vocabulary = Path(config.vocabulary) if config.vocabulary else None
    loaded = load_chat(path, vocabulary, usable_device(config.device), DTYPES[config.dtype])
    fold_scalings(loaded.model.llm)
    engine = ChatEngine(loaded, path.stem, config.max_jobs, observe)
    loaded_s = perf_counter()
    engine.warm_up()
    logger.info("chat engine loaded in %.1f s, warmed up in %.1f s", loaded_s - started_s, perf_counter() - loaded_s)
    return engine
