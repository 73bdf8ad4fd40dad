"""The paint engine: jobs in, events out. All jobs that fit into memory take each denoising step together.

What it observes, each time it happens: `text_encode_s` (of one job), `denoise_step_s` (one step of all that is
painted), `vae_decode_s` (one picture), `rerank_s`, `prompt_tokens` and `pictures` (of one job).
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from PIL import Image
from torch import nn

from models.checkpoints.loading import LoadedPaint, load_paint
from models.engines.combinations import refuse_unsupported
from models.engines.offload.budget import within_budget
from models.engines.offload.placement import offload, pack_resident
from models.engines.oom import is_out_of_memory, release_memory
from models.engines.paint.batch import DenoisingBatch
from models.engines.paint.memory import row_budget_bytes, row_bytes_per_latent
from models.engines.paint.painter import Painter, Painting, preview_steps
from models.engines.paint.previews import fit_latent_colours
from models.engines.paint.prompt import pack_job, unknown_words
from models.engines.paint.rerank import Reranker
from models.engines.paint.scheduler import Scheduler, share_of_step
from models.engines.paint.unet.preparation import prepare_unet
from models.engines.text_folding import Fold, text_folding
from models.engines.turns.residency import InUse
from models.engines.turns.sharing import OwnDevice, SharedDevice, open_device
from models.jobs import (
    Engine,
    EngineConfig,
    EngineEvent,
    Failed,
    Generated,
    Job,
    JobRejected,
    ModelDescription,
    Observe,
    PaintJob,
    Progress,
)
from models.networks.cpm_bee.folding import fold_scalings
from models.networks.cpm_bee.quantized_linear import num_weights
from models.networks.cpm_bee.tokenizer import Tokenizer

logger = logging.getLogger(__name__)

MAX_PICTURES_PER_DECODE = 4
UNKNOWN_BYTES = 1 << 62  # the budget until memory has been measured

Events = list[tuple[str, EngineEvent]]
T = TypeVar("T")


class PaintEngine:
    """`models.jobs.Engine` for paint jobs. Jobs share the networks' calls and nothing else: each has its own noise."""

    def __init__(
        self,
        painter: Painter,
        tokenizer: Tokenizer,
        description: ModelDescription,
        max_jobs: int,
        observe: Observe,
        fold: Fold = str,
        full_every: int = 1,
    ) -> None:
        self.painter = painter
        self.tokenizer = tokenizer
        self.max_jobs = max_jobs
        self.observe = observe
        self.fold = fold
        self.batch = DenoisingBatch(painter.model.unet, full_every)
        self.scheduler = Scheduler(max_jobs, UNKNOWN_BYTES, 1)
        self.bytes_per_latent = 0.0  # of one row of the UNet
        self._description = description
        self._paintings: dict[str, Painting] = {}
        self._step_s = 0.0  # what the last denoising step took
        self._decode_s = 0.0  # what the last picture took

    @property
    def description(self) -> ModelDescription:
        return self._description

    @property
    def capacity(self) -> int:
        return self.scheduler.capacity

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
        self.cancel(job.job_id)
        if len(self._paintings) >= self.max_jobs:
            raise JobRejected("job_failed", f"{self.max_jobs} job(s) in progress, which is all that are allowed")
        self.painter.check(job)
        texts = pack_job(job, self.tokenizer, self.fold)
        painting = Painting(job, texts, unknown_words(job, self.tokenizer, self.fold))
        self._paintings[job.job_id] = painting
        self.scheduler.add(job.job_id, self._job_bytes(job))
        self.observe("prompt_tokens", painting.prompt_tokens)

    def step(self) -> Events:
        """One denoising step of all jobs, and at most about as much time for pictures and texts."""
        events: Events = []
        self._finish(events)
        self._decode(events)
        self._start(events)
        self._denoise(events)
        if not self._paintings:
            self.batch.clear()
        return events

    def cancel(self, job_id: str) -> None:
        self._paintings.pop(job_id, None)
        self.scheduler.remove(job_id)

    def warm_up(self) -> None:
        """One step at the default size, through every network, so that the first job finds all kernels ready.

        Measures what a row takes, and with it how many rows fit beside what is loaded.
        """
        size_px = self.painter.default_size_px
        job = PaintJob(
            job_id="warm-up", prompt="", num_inference_steps=1, height_px=size_px, width_px=size_px, rerank="auto"
        )
        painter = self.painter
        with suppress(JobRejected):  # one step of an untrained model may well give a single colour
            painter.paint(job, pack_job(job, self.tokenizer))
        conditioning = painter.encode(pack_job(job, self.tokenizer))
        painter.texts.rest()
        self.bytes_per_latent = row_bytes_per_latent(self.batch, painter.begin(job, conditioning))
        self.batch.clear()
        budget_bytes = row_budget_bytes(painter.device)
        self.scheduler = Scheduler(self.max_jobs, budget_bytes, self._job_bytes(job))
        logger.info(
            "a picture of %d px takes %.0f MB while it is painted, of %.0f MB that there are",
            size_px,
            self._job_bytes(job) / 1e6,
            budget_bytes / 1e6,
        )

    def modules(self) -> Sequence[nn.Module]:
        """All that has weights."""
        painter = self.painter
        return [painter.model, painter.vae, *(reranker.model for reranker in painter.rerankers.values())]

    def settle(self) -> None:
        """Between two turns on a shared device: what a batch keeps for its next step is soon made again."""
        self.batch.clear()

    def in_use(self) -> Iterator[InUse]:
        """What paintings are by now, and the texts that are known."""
        for painting in self._paintings.values():
            if painting.sampling is not None:
                yield from map(InUse, painting.sampling.tensors())
        yield from map(InUse, self.painter.texts.values())

    def _job_bytes(self, job: PaintJob) -> int:
        """What the job's rows take in a denoising step: two for each candidate."""
        height, width = self.painter.latent_size(job)
        return int(2 * job.candidates * height * width * self.bytes_per_latent)

    def _start(self, events: Events) -> None:
        """Encode the texts of jobs that fit beside those that run; at least one, and as many as take a step's time."""
        began_s = time.perf_counter()
        has_started = False
        while (job_id := self.scheduler.startable()) is not None:
            self.scheduler.start(job_id)
            self._try([job_id], partial(self._encode, self._paintings[job_id]), events)
            has_started = True
            if time.perf_counter() - began_s > self._step_s:
                break
        if has_started:
            self.painter.texts.rest()

    def _encode(self, painting: Painting) -> None:
        started_s = time.perf_counter()
        painting.sampling = self.painter.begin(painting.job, self.painter.encode(painting.packed))
        self.observe("text_encode_s", time.perf_counter() - started_s)

    def _denoise(self, events: Events) -> None:
        running = [
            (job_id, painting)
            for job_id in self.scheduler.running
            if (painting := self._paintings[job_id]).sampling is not None and not painting.sampling.is_done
        ]
        if not running:
            return
        started_s = time.perf_counter()
        samplings = [painting.sampling for _, painting in running if painting.sampling is not None]
        job_ids = [job_id for job_id, _ in running]
        failures = self._try(job_ids, lambda: self.batch.step(samplings), events)
        if failures is None:
            return
        self._step_s = time.perf_counter() - started_s
        self.observe("denoise_step_s", self._step_s)
        for place, (job_id, painting) in enumerate(running):
            painting.denoise_s += self._step_s
            if place in failures:
                self._fail(job_id, failures[place], events)
            else:
                self._tell_progress(job_id, painting, events)

    def _tell_progress(self, job_id: str, painting: Painting, events: Events) -> None:
        sampling, job = painting.sampling, painting.job
        assert sampling is not None
        step = sampling.num_steps_done
        preview: bytes | None = b""
        if step in preview_steps(job.previews, job.num_inference_steps):
            preview = self._try([job_id], lambda: self.painter.preview(sampling), events)
        if preview is not None:
            events.append((job_id, Progress(step=step, total_steps=job.num_inference_steps, preview_png=preview)))

    def _decode(self, events: Events) -> None:
        """The oldest finished latents of one size, as many pictures as take about one denoising step's time."""
        wanted: list[tuple[str, Painting, int]] = []
        size: torch.Size | None = None
        most = share_of_step(self._step_s, self._decode_s, MAX_PICTURES_PER_DECODE)
        for job_id in self.scheduler.running:
            painting = self._paintings[job_id]
            sampling = painting.sampling
            if sampling is None or not sampling.is_done or size not in (None, sampling.latents.shape[1:]):
                continue
            left = range(len(painting.pictures), painting.job.candidates)
            if left:
                size = sampling.latents.shape[1:]
                wanted += [(job_id, painting, number) for number in left]
        wanted = wanted[:most]
        if not wanted:
            return
        started_s = time.perf_counter()
        pictures = self._pictures(wanted, events)
        self._decode_s = (time.perf_counter() - started_s) / len(wanted)
        for painting, picture in pictures:
            painting.pictures.append(picture)
            painting.decode_s += self._decode_s
            self.observe("vae_decode_s", self._decode_s)

    def _pictures(
        self, wanted: Sequence[tuple[str, Painting, int]], events: Events
    ) -> list[tuple[Painting, Image.Image]]:
        """In one call; where that goes wrong, each alone, so that the job at fault fails by itself."""
        latents, seeds = [], []
        for _, painting, number in wanted:
            assert painting.sampling is not None
            latents.append(painting.sampling.latents[number : number + 1])
            seeds.append(painting.seeds[number])
        if len(wanted) > 1:
            with suppress(JobRejected, RuntimeError):
                pictures = self.painter.decode(torch.cat(latents), seeds)
                return [(painting, picture) for (_, painting, _), picture in zip(wanted, pictures, strict=True)]
        done = []
        for (job_id, painting, _), latent, seed in zip(wanted, latents, seeds, strict=True):
            if job_id not in self._paintings:  # an earlier picture of it failed
                continue
            alone = self._try([job_id], partial(self.painter.decode, latent, [seed]), events)
            done += [(painting, picture) for picture in alone or []]
        return done

    def _finish(self, events: Events) -> None:
        """Jobs that have all their pictures; no more than one with a reranker."""
        for job_id in self.scheduler.running:
            painting = self._paintings[job_id]
            if not painting.has_all_pictures:
                continue
            started_s = time.perf_counter()
            generated: Generated | None = self._try([job_id], partial(self.painter.finish, painting), events)
            if generated is None:
                continue
            self.cancel(job_id)
            events.append((job_id, generated))
            self.observe("pictures", painting.job.candidates)
            if self.painter.reranker(painting.job) is not None:
                self.observe("rerank_s", time.perf_counter() - started_s)
                return

    def _try(self, job_ids: Sequence[str], work: Callable[[], T], events: Events) -> T | None:
        """What goes wrong ends these jobs alone, but a broken device ends the process."""
        try:
            return work()
        except torch.AcceleratorError:
            raise
        except Exception as error:
            for job_id in job_ids:
                self._fail(job_id, error, events)
        # Past the handler, whose traceback kept tensors alive.
        release_memory(self.painter.device)
        return None

    def _fail(self, job_id: str, error: Exception, events: Events) -> None:
        self.cancel(job_id)
        events.append((job_id, _failed(job_id, error)))


def _failed(job_id: str, error: Exception) -> Failed:
    if isinstance(error, JobRejected):
        return Failed(code=error.code, message=error.message)
    if is_out_of_memory(error):
        logger.warning("paint job %s does not fit into memory", job_id)
        return Failed(
            code="out_of_memory",
            message="the pictures do not fit into memory even one by one: ask for a smaller size or fewer candidates",
        )
    logger.error("paint job %s met an error of the engine", job_id, exc_info=error)
    return Failed(code="job_failed", message="painting met an internal error")


def create_engine(config: EngineConfig, observe: Observe) -> Engine:
    """A PaintEngine on the device that the configuration names, or what gives it that device in turn.

    Raises:
        DeviceUnusable: torch cannot compute there.
        QueueUnusable: the folder by which workers take turns cannot be used.
        CheckpointError, OSError: a file is missing, broken or of another kind.
        OffloadUnusable: BMInf is wanted and cannot run here.
        ValueError: settings that exclude each other.
    """
    config = within_budget(config)
    refuse_unsupported(config)
    place = open_device(config, observe)
    return place.around(load_engine(config, observe, place))


def load_engine(config: EngineConfig, observe: Observe, place: OwnDevice | SharedDevice) -> PaintEngine:
    """Load the checkpoint, the VAE and, where configured, the rerankers; then warm up.

    Raises:
        CheckpointError, OSError: a file is missing, broken or of another kind.
        OffloadUnusable: BMInf is wanted and cannot run here.
        ValueError: a budget of memory that nothing fits.
    """
    started_s = time.perf_counter()
    device, dtype, is_offloaded = place.device, getattr(torch, config.dtype), config.offload != "off"
    loaded = load_paint(
        Path(config.checkpoint),
        vocabulary=Path(config.vocabulary) if config.vocabulary else None,
        vae=Path(config.vae) if config.vae else None,
        device="cpu" if is_offloaded else place.load_device,
        dtype=None if is_offloaded else dtype,
        quantization="off" if is_offloaded else config.quantization,
        is_to_change=not is_offloaded,
    )
    if is_offloaded:
        offload(loaded.model, loaded.model.llm, device, dtype, config)
    else:
        fold_scalings(loaded.model.llm)
        place.begin(loaded.model, loaded.vae)
    painter = Painter(
        model=loaded.model,
        # A tenth faster on CPUs; the UNet gains nothing there
        vae=loaded.vae.to(device, memory_format=torch.channels_last),
        scheduler_config=loaded.scheduler_config,
        steps_offset=config.steps_offset,
        rerankers={language: Reranker(Path(folder), device) for language, folder in config.rerankers.items()},
        device=device,
    )
    description = describe(config, painter, loaded)  # counts the weights as the checkpoint has them
    prepare_unet(loaded.model.unet)
    pack_resident(loaded.model.llm, loaded.model.llm, projects=False)
    colours = fit_latent_colours(painter.vae, painter.latent_px, device)
    painter = replace(painter, colours=colours if colours.is_good else None)
    fold = text_folding(loaded.training_text, loaded.tokenizer, config.fold_traditional)
    engine = PaintEngine(painter, loaded.tokenizer, description, config.max_jobs, observe, fold, config.full_every)
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
        quantization=loaded.quantization,
        parameters=num_weights(loaded.model),
        picture_size_px=painter.default_size_px,
        picture_multiple_px=painter.picture_multiple_px,
        rerankers={language: reranker.name for language, reranker in painter.rerankers.items()},
    )
