"""What one paint job needs of the networks, a piece of work at a time. Which piece comes when is the engine's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from io import BytesIO
from typing import Any

import torch
from diffusers import AutoencoderKL, DDPMScheduler
from PIL import Image
from torch import Tensor

from models.engines.paint.batch import DenoisingBatch
from models.engines.paint.decoding import PictureDecoder, check_picture, decode_latents, to_bytes
from models.engines.paint.previews import LatentColours
from models.engines.paint.prompt import PROMPT_ROW
from models.engines.paint.rerank import Reranker
from models.engines.paint.samplers import check_num_steps, make_scheduler, step_table
from models.engines.paint.sampling import Sampling, candidate_generators
from models.engines.paint.texts import TextEncoder
from models.jobs import Candidate, Generated, JobRejected, PaintJob, PaintResult
from models.networks.cpm_bee.packing import PackedBatch
from models.networks.paint.model import PaintModel


@dataclass(frozen=True)
class Painter:
    """The networks of one worker, and each piece of a job's work. Holds nothing of any job but its texts.

    Args:
        scheduler_config: the noise schedule's settings, in diffusers' names.
        steps_offset: see `make_scheduler`.
        rerankers: by the language of prompts.
        colours: paints previews; None: the VAE does.
    """

    model: PaintModel
    vae: AutoencoderKL
    scheduler_config: Mapping[str, Any]
    steps_offset: int
    rerankers: Mapping[str, Reranker]
    device: torch.device
    colours: LatentColours | None = None

    @cached_property
    def texts(self) -> TextEncoder:
        return TextEncoder(self.model, self.device)

    @cached_property
    def decoder(self) -> PictureDecoder:
        return PictureDecoder(self.vae)

    @cached_property
    def scheduler(self) -> DDPMScheduler:
        """The betas that all samplers share."""
        return make_scheduler(self.scheduler_config, self.steps_offset)

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
            check_num_steps(self.scheduler, job.num_inference_steps)
        except ValueError as error:
            raise JobRejected("invalid_request", str(error)) from error

    def paint(self, job: PaintJob, texts: PackedBatch) -> Generated:
        """A job by itself, from beginning to end.

        Raises:
            JobRejected: `generation_failed`, instead of a picture that is none.
        """
        painting, batch = Painting(job, texts), DenoisingBatch(self.model.unet)
        sampling = self.begin(job, self.encode(texts))
        while not sampling.is_done:
            for error in batch.step([sampling]).values():
                raise error
        painting.pictures = [
            picture
            for latents, seed in zip(sampling.latents.split(1), painting.seeds, strict=True)
            for picture in self.decode(latents, [seed])
        ]
        return self.finish(painting)

    def encode(self, texts: PackedBatch) -> Tensor:
        """Conditioning (B, L, cross attention width) in the adapter's dtype."""
        return self.texts.encode(texts)

    def begin(self, job: PaintJob, conditioning: Tensor) -> Sampling:
        """The job's noise, and its way from there."""
        return Sampling(
            step_table(self.scheduler, job.num_inference_steps, job.sampler),
            conditioning,
            num_candidates=job.candidates,
            latent_shape=(int(self.model.unet.config.in_channels), *self.latent_size(job)),
            guidance_scale=job.guidance_scale,
            generators=candidate_generators(job.seed, job.candidates),
        )

    def latent_size(self, job: PaintJob) -> tuple[int, int]:
        """Height and width of the job's latents."""
        return job.height_px // self.latent_px, job.width_px // self.latent_px

    def decode(self, latents: Tensor, seeds: Sequence[int]) -> list[Image.Image]:
        """Pictures of candidates of any jobs from their latents (n, C, h, w).

        Raises:
            JobRejected: `generation_failed`, instead of a picture that is none.
        """
        pictures = self.decoder.decode(latents)  # (n, H, W, 3)
        for picture, seed in zip(pictures, seeds, strict=True):
            check_picture(picture, seed)
        return [Image.fromarray(picture.numpy()) for picture in pictures]

    def preview(self, sampling: Sampling) -> bytes:
        """The first candidate's picture as the last step foresees it."""
        foreseen = sampling.predicted_latents[:1]
        painted = decode_latents(self.vae, foreseen) if self.colours is None else self.colours.paint(foreseen)
        return encode_png(Image.fromarray(to_bytes(painted)[0].cpu().numpy()))

    def finish(self, painting: "Painting") -> Generated:
        """Judge and encode the pictures of a job that has them all."""
        job = painting.job
        scores: list[float | None] = [None] * job.candidates
        reranker = self.reranker(job)
        if reranker is not None:
            scores = list(reranker.scores(job.prompt, painting.pictures))
        candidates = [
            Candidate(png=encode_png(picture), seed=seed, score=score)
            for picture, seed, score in zip(painting.pictures, painting.seeds, scores, strict=True)
        ]
        return Generated(
            result=PaintResult(
                candidates=best_first(candidates),
                prompt_tokens=painting.prompt_tokens,
                height_px=job.height_px,
                width_px=job.width_px,
                reranker=reranker.name if reranker else "",
                unknown_words=list(painting.unknown_words),
                denoise_s=painting.denoise_s,
                decode_s=painting.decode_s,
            )
        )

    def reranker(self, job: PaintJob) -> Reranker | None:
        return self.rerankers.get(job.language) if wants_rerank(job) else None


@dataclass
class Painting:
    """One job in progress."""

    job: PaintJob
    packed: PackedBatch
    unknown_words: Sequence[str] = ()  # of its texts
    sampling: Sampling | None = None  # None until its texts are encoded
    pictures: list[Image.Image] = field(default_factory=list)
    denoise_s: float = 0.0  # of the steps that it took part in
    decode_s: float = 0.0

    @property
    def prompt_tokens(self) -> int:
        return int(self.packed.lengths[PROMPT_ROW])

    @property
    def seeds(self) -> list[int]:
        return [self.job.seed + i for i in range(self.job.candidates)]

    @property
    def has_all_pictures(self) -> bool:
        return len(self.pictures) == self.job.candidates


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
