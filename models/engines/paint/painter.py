"""One paint job from its texts to its candidates, in slices short enough to be stopped between."""

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import torch
from diffusers import AutoencoderKL
from PIL import Image
from torch import Tensor

from models.engines.paint.denoise import (
    Denoiser,
    candidate_generators,
    check_num_steps,
    check_picture,
    decode_latents,
    make_scheduler,
    to_bytes,
)
from models.engines.paint.prompt import PROMPT_ROW
from models.engines.paint.rerank import Reranker
from models.jobs import Candidate, Generated, JobRejected, Observe, PaintJob, PaintResult, Progress
from models.networks.cpm_bee.packing import PackedBatch
from models.networks.paint.model import PaintModel

# What the slices of a job yield; None where there is nothing to tell.
Slices = Iterator[Progress | Generated | None]


@dataclass(frozen=True)
class Painter:
    """The networks of one worker, and the line that a job runs through. Holds nothing of any job.

    Args:
        scheduler_config: the noise schedule's settings, in diffusers' names.
        steps_offset: see `make_scheduler`.
        rerankers: by the language of prompts.
    """

    model: PaintModel
    vae: AutoencoderKL
    scheduler_config: Mapping[str, Any]
    steps_offset: int
    rerankers: Mapping[str, Reranker]
    device: torch.device

    @property
    def latent_px(self) -> int:
        """Side of the square of pixels that one latent stands for."""
        return 1 << (len(self.vae.config.block_out_channels) - 1)

    @property
    def picture_multiple_px(self) -> int:
        """Sides that the VAE and the UNet can halve as often as they do are multiples of this."""
        return self.latent_px << (len(self.model.unet.config.block_out_channels) - 1)

    @property
    def default_size_px(self) -> int:
        """The side that the UNet was trained for."""
        return int(self.model.unet.config.sample_size) * self.latent_px

    def check(self, job: PaintJob) -> None:
        """Raises JobRejected: `invalid_size`, `reranker_not_configured` or `invalid_request`."""
        multiple = self.picture_multiple_px
        for name, side in (("height", job.height_px), ("width", job.width_px)):
            if side < multiple or side % multiple:
                raise JobRejected("invalid_size", f"{name} is {side} px, allowed are multiples of {multiple} px")
        if job.rerank == "on" and job.language not in self.rerankers:
            known = ", ".join(self.rerankers) or "none"
            raise JobRejected(
                "reranker_not_configured",
                f"rerank is on, but this worker has no reranker for prompts in {job.language!r}, only for: {known}; "
                "use auto or off",
            )
        if job.candidates < 1:
            raise JobRejected("invalid_request", f"candidates is {job.candidates}, at least 1 is needed")
        try:
            check_num_steps(make_scheduler(self.scheduler_config, self.steps_offset), job.num_inference_steps)
        except ValueError as error:
            raise JobRejected("invalid_request", str(error)) from error

    def paint(self, job: PaintJob, texts: PackedBatch, observe: Observe, unknown_words: Sequence[str] = ()) -> Slices:
        """Yields after each slice of work: the texts, each denoising step, each picture, the reranking.

        The last thing yielded is `Generated`.

        Args:
            unknown_words: of the job's texts, for its result.

        Raises:
            JobRejected: `generation_failed`, instead of a picture that is none.
        """
        clock = Stopwatch(observe)
        observe("prompt_tokens", prompt_tokens := int(texts.lengths[PROMPT_ROW]))
        with clock.measure("text_encode_s"):
            conditioning = self.encode(texts)
        yield None

        denoiser = self.denoiser(job, conditioning)
        previews = preview_steps(job.previews, job.num_inference_steps)
        while not denoiser.is_done:
            with clock.measure("denoise_step_s"):
                denoiser.step()
            step = denoiser.num_steps_done
            preview = self.preview(denoiser) if step in previews else b""
            yield Progress(step=step, total_steps=job.num_inference_steps, preview_png=preview)

        seeds = [job.seed + i for i in range(job.candidates)]
        pictures = []
        for latents, seed in zip(denoiser.latents.split(1), seeds, strict=True):
            with clock.measure("vae_decode_s"):
                pictures.append(self.decode(latents, seed))
            yield None

        scores: list[float | None] = [None] * job.candidates
        reranker = self.rerankers.get(job.language) if wants_rerank(job) else None
        if reranker is not None:
            with clock.measure("rerank_s"):
                scores = list(reranker.scores(job.prompt, pictures))
        candidates = [
            Candidate(png=encode_png(picture), seed=seed, score=score)
            for picture, seed, score in zip(pictures, seeds, scores, strict=True)
        ]
        observe("pictures", len(candidates))
        yield Generated(
            result=PaintResult(
                candidates=best_first(candidates),
                prompt_tokens=prompt_tokens,
                height_px=job.height_px,
                width_px=job.width_px,
                reranker=reranker.name if reranker else "",
                unknown_words=list(unknown_words),
                denoise_s=clock.total_s["denoise_step_s"],
                decode_s=clock.total_s["vae_decode_s"],
            )
        )

    @torch.inference_mode()
    def encode(self, texts: PackedBatch) -> Tensor:
        """Conditioning (2, L, cross attention width) in the adapter's dtype."""
        conditioning = self.model.encode_prompts(texts.to(self.device))
        if not torch.isfinite(conditioning).all():
            raise JobRejected("generation_failed", "the prompt's hidden states are not finite")
        return conditioning

    def denoiser(self, job: PaintJob, conditioning: Tensor) -> Denoiser:
        return Denoiser(
            self.model.unet,
            make_scheduler(self.scheduler_config, self.steps_offset),
            conditioning,
            num_candidates=job.candidates,
            latent_size=(job.height_px // self.latent_px, job.width_px // self.latent_px),
            num_inference_steps=job.num_inference_steps,
            guidance_scale=job.guidance_scale,
            generators=candidate_generators(job.seed, job.candidates),
        )

    def decode(self, latents: Tensor, seed: int) -> Image.Image:
        """One candidate's picture from its latents (1, C, h, w)."""
        picture = to_bytes(decode_latents(self.vae, latents))[0].cpu()  # (H, W, 3)
        check_picture(picture, seed)
        return Image.fromarray(picture.numpy())

    def preview(self, denoiser: Denoiser) -> bytes:
        """The first candidate's picture as the last step foresees it."""
        foreseen = to_bytes(decode_latents(self.vae, denoiser.predicted_latents[:1]))[0]
        return encode_png(Image.fromarray(foreseen.cpu().numpy()))


class Stopwatch:
    """Tells each measured time, and keeps the sums by name."""

    def __init__(self, observe: Observe) -> None:
        self.observe = observe
        self.total_s: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        started_s = time.perf_counter()
        yield
        elapsed_s = time.perf_counter() - started_s
        self.total_s[name] += elapsed_s
        self.observe(name, elapsed_s)


def wants_rerank(job: PaintJob) -> bool:
    """`auto` reranks where there is a choice."""
    return job.rerank == "on" or (job.rerank == "auto" and job.candidates > 1)


def preview_steps(previews: int, total_steps: int) -> set[int]:
    """Steps, counted from 1, after which a preview is made: evenly spread, never the last."""
    return {i * total_steps // (previews + 1) for i in range(1, previews + 1)} - {0}


def best_first(candidates: list[Candidate]) -> list[Candidate]:
    """By falling score; without scores in the order of the seeds."""
    return sorted(candidates, key=lambda candidate: candidate.score or 0.0, reverse=True)


def encode_png(picture: Image.Image) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, "PNG", compress_level=1)  # level 6 takes several times as long for a few per cent
    return buffer.getvalue()
