"""The paint engine: jobs in, events out, one slice of work for each job at a time.

What it observes, each time it happens: `text_encode_s`, `denoise_step_s` (all candidates of one job), `vae_decode_s`
(one picture), `rerank_s`, `prompt_tokens` and `pictures` (of one job).
"""

import logging
import time
from contextlib import suppress
from pathlib import Path

import torch

from models.checkpoints.loading import LoadedPaint, load_paint
from models.engines.device import usable_device
from models.engines.oom import is_out_of_memory, release_memory
from models.engines.paint.painter import Painter, Slices
from models.engines.paint.prompt import pack_job, unknown_words
from models.engines.paint.rerank import Reranker
from models.engines.text_folding import Fold, text_folding
from models.jobs import (
    EngineConfig,
    EngineEvent,
    Failed,
    Generated,
    Job,
    JobRejected,
    ModelDescription,
    Observe,
    PaintJob,
)
from models.networks.cpm_bee.folding import fold_scalings
from models.networks.cpm_bee.tokenizer import Tokenizer

logger = logging.getLogger(__name__)


class PaintEngine:
    """`models.jobs.Engine` for paint jobs. Jobs share the networks and nothing else: each has noise of its own."""

    def __init__(
        self,
        painter: Painter,
        tokenizer: Tokenizer,
        description: ModelDescription,
        max_jobs: int,
        observe: Observe,
        fold: Fold = str,
    ) -> None:
        self.painter = painter
        self.tokenizer = tokenizer
        self.max_jobs = max_jobs
        self.observe = observe
        self.fold = fold
        self._description = description
        self._running: dict[str, Slices] = {}

    @property
    def description(self) -> ModelDescription:
        return self._description

    @property
    def capacity(self) -> int:
        return self.max_jobs - len(self._running)

    def image_key(self, job: Job) -> str | None:
        """None: nothing of a paint job is worth keeping for another."""
        return None

    def admit(self, job: Job) -> None:
        """Take a job in.

        Raises:
            JobRejected: `invalid_size`, `reranker_not_configured`, `unknown_words` or `invalid_request`; `job_failed`
                without room.
        """
        if not isinstance(job, PaintJob):
            raise JobRejected("invalid_request", f"a paint worker was given a {type(job).__name__}")
        if job.job_id not in self._running and self.capacity < 1:
            raise JobRejected("job_failed", f"{self.max_jobs} job(s) in progress, which is all that are allowed")
        self.painter.check(job)
        texts = pack_job(job, self.tokenizer, self.fold)
        unknown = unknown_words(job, self.tokenizer, self.fold)
        self._running[job.job_id] = self.painter.paint(job, texts, self.observe, unknown)

    def step(self) -> list[tuple[str, EngineEvent]]:
        """A slice for each job: its texts, one denoising step, one picture's decoding, or the reranking."""
        events: list[tuple[str, EngineEvent]] = []
        for job_id, slices in list(self._running.items()):
            event = self._advance(job_id, slices)
            if isinstance(event, Generated | Failed):
                del self._running[job_id]
            if event is not None:
                events.append((job_id, event))
        return events

    def cancel(self, job_id: str) -> None:
        self._running.pop(job_id, None)

    def warm_up(self) -> None:
        """One step at the default size, through every network, so that the first job finds all kernels ready."""
        size_px = self.painter.default_size_px
        job = PaintJob(
            job_id="warm-up",
            prompt="",
            num_inference_steps=1,
            height_px=size_px,
            width_px=size_px,
            rerank="auto",
        )
        with suppress(JobRejected):  # one step of an untrained model may well give a single colour
            for _ in self.painter.paint(job, pack_job(job, self.tokenizer), observe=lambda name, value: None):
                pass

    def _advance(self, job_id: str, slices: Slices) -> EngineEvent | None:
        """A job's next event. What goes wrong ends this job alone, but a broken device ends the process."""
        try:
            return next(slices)
        except JobRejected as error:
            return Failed(code=error.code, message=error.message)
        except torch.AcceleratorError:
            raise
        except Exception as error:
            if not is_out_of_memory(error):
                logger.exception("paint job %s met an error of the engine", job_id)
                return Failed(code="job_failed", message="painting met an internal error")
        # Past the handler, whose traceback kept the job's tensors alive.
        logger.warning("paint job %s does not fit into memory", job_id)
        release_memory(self.painter.device)
        return Failed(
            code="out_of_memory",
            message="the pictures do not fit into memory even one by one: ask for a smaller size or fewer candidates",
        )


def create_engine(config: EngineConfig, observe: Observe) -> PaintEngine:
    """Load the checkpoint, the VAE and, where configured, the rerankers; then warm up.

    Raises:
        DeviceUnusable: torch cannot compute there.
        CheckpointError, OSError: a file is missing, broken or of another kind.
    """
    started_s = time.perf_counter()
    device = usable_device(config.device)
    loaded = load_paint(
        Path(config.checkpoint),
        vocabulary=Path(config.vocabulary) if config.vocabulary else None,
        vae=Path(config.vae) if config.vae else None,
        device=device,
        dtype=getattr(torch, config.dtype),
    )
    fold_scalings(loaded.model.llm)
    painter = Painter(
        model=loaded.model,
        vae=loaded.vae.to(memory_format=torch.channels_last),  # a tenth faster on CPUs; the UNet gains nothing there
        scheduler_config=loaded.scheduler_config,
        steps_offset=config.steps_offset,
        rerankers={language: Reranker(Path(folder), device) for language, folder in config.rerankers.items()},
        device=device,
    )
    fold = text_folding(loaded.training_text, loaded.tokenizer, config.fold_traditional)
    engine = PaintEngine(painter, loaded.tokenizer, describe(config, painter, loaded), config.max_jobs, observe, fold)
    loaded_s = time.perf_counter()
    engine.warm_up()
    logger.info(
        "paint engine loaded in %.1f s, warmed up in %.1f s", loaded_s - started_s, time.perf_counter() - loaded_s
    )
    return engine


def describe(config: EngineConfig, painter: Painter, loaded: LoadedPaint) -> ModelDescription:
    return ModelDescription(
        kind="paint",
        name=Path(config.checkpoint).stem,
        fingerprint=loaded.fingerprint,
        untrained=loaded.untrained,
        device=config.device,
        dtype=config.dtype,
        parameters=sum(parameter.numel() for parameter in loaded.model.parameters()),
        picture_size_px=painter.default_size_px,
        picture_multiple_px=painter.picture_multiple_px,
        rerankers={language: reranker.name for language, reranker in painter.rerankers.items()},
    )
