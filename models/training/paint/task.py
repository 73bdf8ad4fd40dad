"""The Paint task: captions to latents, by predicting the noise that was added to them (SPEC §8.5), or their velocity.

No recipe is published beyond that loss. Chosen here: a tenth of the captions left empty, which guidance needs; an
average of the weights over the steps, which is what is validated and exported; text rows attended to as in painting.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import EMAModel, compute_snr
from torch import Tensor, nn

from models.checkpoints.companion_files import SCHEDULER_CONFIG_FILE, VOCABULARY_FILE
from models.checkpoints.conversion import write_folder, write_json
from models.checkpoints.published_names import published_name
from models.datasets.examples import PictureSource
from models.engines.paint.samplers import make_scheduler
from models.networks.paint.model import PaintModel
from models.training.muon import layer_weights
from models.training.paint.batch import PaintBatch, collate_pictures
from models.training.paint.noise import draw_diffusion
from models.training.paint.samples import paint_samples
from models.training.paint.settings import PaintSettings, Trained
from models.training.paint.start import VELOCITY, PaintStart
from models.training.paint.vae import latent_px, save_grid, to_input
from models.training.task import Position, Stateful, Task

_LLM = "llm."
_EMBEDDING = "llm.embedding.weight"
_ADAPTER = "prompt_adapter."
_CROSS_ATTENTION = ".attn2."  # queries, keys, values and output of each: what ties the UNet to the text
_VALIDATION_SEED = 500_009
_VALIDATED_AT_ONCE = 16


class PaintTask(Task[PaintBatch]):
    """Trains a PaintModel on a source of captioned pictures.

    Args:
        start: the model; the VAE, which stays as it is and whose `scaling_factor` brings latents to unit variance;
            and the files that the export takes over.
        validation: a source apart from `source`, whose first pictures are validated on.
        pictures: folder for what validation paints; None for nowhere.
    """

    model: PaintModel

    def __init__(
        self,
        start: PaintStart,
        source: PictureSource,
        validation: PictureSource,
        seed: int,
        settings: PaintSettings,
        pictures: Path | None = None,
    ) -> None:
        self.model, self.vae = start.model, start.vae
        self.source, self.seed, self.settings = source, seed, settings
        self._config, self._files = start.model.config, start
        self._schedule = make_scheduler(start.scheduler_config, steps_offset=0)
        self._tokenizer = start.tokenizer
        self._validation, self._pictures = validation, pictures
        self._known_latents: dict[bytes, Tensor] = {}
        choose_trained(self.model, settings.train)
        self._trained_names = [name for name, value in self.model.named_parameters() if value.requires_grad]
        self._ema: EMAModel | None = None

    def parameter_groups(self) -> list[dict[str, Any]]:
        groups: dict[str, list[nn.Parameter]] = {"painting": [], "llm": [], "embedding": []}
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad:
                group = "embedding" if name == _EMBEDDING else "llm" if name.startswith(_LLM) else "painting"
                groups[group].append(parameter)
        settings = self.settings
        rates = {"painting": settings.lr, "llm": settings.llm_lr, "embedding": settings.embedding_lr}
        return [{"name": name, "params": found, "lr": rates[name]} for name, found in groups.items() if found]

    def hidden_weights(self) -> list[tuple[nn.Parameter, float]]:
        unet = self.model.unet
        edges = {id(weight) for part in (unet.conv_in, unet.conv_out) for weight in layer_weights(part)}
        return [(weight, 1.0) for weight in layer_weights(unet) if id(weight) not in edges]

    def num_examples(self) -> int:
        return len(self.source)

    def collate(self, positions: Sequence[Position]) -> PaintBatch:
        return self._collate(self.source, positions, self.seed, self.settings.empty_share)

    def loss(self, batch: PaintBatch) -> tuple[Tensor, Tensor]:
        losses = self.losses(batch)
        return losses.sum(), torch.tensor(len(losses), device=losses.device)

    def losses(self, batch: PaintBatch) -> Tensor:
        """Each example's mean squared error to what the UNet has to predict, weighted where that is wanted (B,)."""
        draws = batch.draws
        latents = self._sample_latents(batch.pixels, draws.latent_noise)
        noisy = self._schedule.add_noise(latents, draws.noise, draws.timesteps)
        noisy = noisy.contiguous(memory_format=torch.channels_last)  # what CPUs and tensor cores like best
        states = self.model.encode_prompts(batch.texts)  # (B, L, W)
        predicted = self.model.unet(
            noisy, draws.timesteps, states, encoder_attention_mask=batch.text_mask, return_dict=False
        )[0]
        if self._schedule.config.prediction_type == VELOCITY:
            target = self._schedule.get_velocity(latents, draws.noise, draws.timesteps)
        else:
            target = draws.noise
        losses = (predicted.float() - target).square().mean(dim=(1, 2, 3))
        return losses * snr_weights(self._schedule, draws.timesteps, self.settings.min_snr)

    def validate(self) -> dict[str, float]:
        """The loss of fixed pictures at fixed noise, no caption left out; and pictures of the first captions."""
        count = min(self.settings.num_validation, len(self._validation))
        device = self.model.prompt_adapter.linear.weight.device
        losses = []
        with self._averaged():
            for first in range(0, count, _VALIDATED_AT_ONCE):
                places = range(first, min(first + _VALIDATED_AT_ONCE, count))
                positions = [Position(index=place, epoch=0, step=0, place=place) for place in places]
                batch = self._collate(self._validation, positions, _VALIDATION_SEED, empty_share=0.0)
                losses.append(self.losses(batch.to(device)))
            if self._pictures is not None:
                self._paint(self._pictures)
        return {"loss": float(torch.cat(losses).mean())}

    def after_step(self) -> None:
        if self._ema is not None:
            trained = self._trained()
            if self._ema.shadow_params[0].device != trained[0].device:  # as a saved state leaves it
                self._ema.to(trained[0].device)
            self._ema.step(trained)

    def stateful(self) -> tuple[Stateful, ...]:
        # The loop asks when the parameters are where they stay.
        if self.settings.ema_decay:
            self._ema = EMAModel(self._trained(), decay=self.settings.ema_decay, foreach=True)
            return (self._ema,)
        return ()

    def export(self, folder: Path, weights: Mapping[str, Tensor]) -> None:
        """A converted folder with VAE and schedule, as `load_paint` opens it; averaged weights where there are any."""
        averaged = {}
        if self._ema is not None:
            averaged = dict(zip(self._trained_names, self._ema.shadow_params, strict=True))
        tensors = {}
        for name, tensor in weights.items():
            dtype = self.settings.llm_export_dtype if name.startswith(_LLM) else self.settings.export_dtype
            tensors[published_name("paint", name)] = averaged.get(name, tensor).to("cpu", dtype).contiguous()
        shutil.copyfile(self._files.vocabulary, folder / VOCABULARY_FILE)
        shutil.copytree(self._files.vae_folder, folder / "vae", dirs_exist_ok=True)
        write_json(folder / SCHEDULER_CONFIG_FILE, self._files.scheduler_config)
        write_folder(folder, "paint", self._config, tensors.items(), untrained=False)

    def _collate(
        self, source: PictureSource, positions: Sequence[Position], seed: int, empty_share: float
    ) -> PaintBatch:
        pictures = [source.picture(position.index, position.epoch) for position in positions]
        side = pictures[0].pixels.shape[0] // latent_px(self.vae)
        latent_shape = (self.vae.config.latent_channels, side, side)
        num_timesteps = self._schedule.config.num_train_timesteps
        draws = draw_diffusion(positions, seed, latent_shape, num_timesteps, empty_share)
        return collate_pictures(pictures, self._tokenizer, draws)

    @torch.no_grad()
    def _sample_latents(self, pixels: Tensor, noise: Tensor) -> Tensor:
        """Pictures (B, S, S, 3) -> latents (B, C, h, w) of unit variance, sampled with the noise given."""
        self.vae.to(pixels.device)
        if self.settings.cache_latents:
            moments = torch.stack([self._known_moments(picture) for picture in pixels]).to(pixels.device)
        else:
            moments = self._moments(pixels)
        mean, std = moments.unbind(dim=1)
        return (mean + std * noise) * self.vae.config.scaling_factor

    def _known_moments(self, picture: Tensor) -> Tensor:
        key = blake2b(picture.cpu().numpy().tobytes(), digest_size=16).digest()
        if key not in self._known_latents:
            # Encoded alone, so that a resumed run, whose first batches are others, gets the same to the last bit
            self._known_latents[key] = self._moments(picture[None])[0].cpu()
        return self._known_latents[key]

    def _moments(self, pixels: Tensor) -> Tensor:
        """Mean and standard deviation of the latents (B, 2, C, h, w), before scaling."""
        posterior = self.vae.encode(to_input(pixels)).latent_dist
        return torch.stack([posterior.mean, posterior.std], dim=1)

    def _trained(self) -> list[nn.Parameter]:
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """The model with its averaged weights."""
        if self._ema is None:
            yield
            return
        self._ema.store(self._trained())
        self._ema.copy_to(self._trained())
        yield
        self._ema.restore(self._trained())

    def _paint(self, folder: Path) -> None:
        """The validation's first pictures above what the model makes of their captions, as `samples.png`."""
        examples = [
            self._validation.picture(index, 0) for index in range(min(self.settings.num_samples, len(self._validation)))
        ]
        painted = paint_samples(
            self.model,
            self.vae,
            make_scheduler(self._files.scheduler_config, steps_offset=0),
            self._tokenizer,
            [example.caption for example in examples],
            side_px=examples[0].pixels.shape[0],
            num_inference_steps=self.settings.sample_steps,
            guidance_scale=self.settings.guidance_scale,
        )
        originals = torch.from_numpy(np.stack([example.pixels for example in examples]))
        save_grid([originals, painted], folder / "samples.png")


def choose_trained(model: PaintModel, train: Trained) -> None:
    """Set `requires_grad`; see PaintSettings."""
    for name, parameter in model.named_parameters():
        is_bridge = name.startswith(_ADAPTER) or (train == "bridge" and _CROSS_ATTENTION in name)
        parameter.requires_grad_(train == "all" or is_bridge)


def snr_weights(schedule: DDPMScheduler, timesteps: Tensor, gamma: float) -> Tensor:
    """min(SNR, gamma) / SNR of each timestep (B,), for velocity / (SNR + 1) (min-SNR weighting); 1 for gamma 0."""
    if not gamma:
        return torch.ones(timesteps.shape, device=timesteps.device)
    snr: Tensor = compute_snr(schedule, timesteps)
    return snr.clamp(max=gamma) / (snr + 1 if schedule.config.prediction_type == VELOCITY else snr)
