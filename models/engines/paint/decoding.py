"""Pictures from latents (SPEC §8.3). Texts and jobs are unknown here."""

from collections.abc import Sequence

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from models.engines.oom import is_out_of_memory, release_memory
from models.jobs import JobRejected

TILE_OVERLAP = 0.25  # of a tile's side: what neighbours blend over


@torch.inference_mode()
def decode_latents(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    """(n, C, h, w) -> (n, H, W, 3), float32 in 0..1."""
    scaled = (latents / vae.config.scaling_factor).to(vae.dtype)
    decoded: Tensor = vae.decode(scaled, return_dict=False)[0]  # (n, 3, H, W)
    return (decoded.float() / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)


def to_bytes(pictures: Tensor) -> Tensor:
    """0..1 -> uint8, halves rounded to even as the reference does."""
    return (pictures * 255).round().to(torch.uint8)


def check_picture(picture: Tensor, seed: int) -> None:
    """Raises JobRejected (`generation_failed`) for a uint8 picture of one colour, such as a black one."""
    colours: Sequence[int] = picture.flatten(0, -2).amin(dim=0).tolist()
    if colours == picture.flatten(0, -2).amax(dim=0).tolist():
        raise JobRejected("generation_failed", f"the picture of seed {seed} is a single colour, RGB {tuple(colours)}")


class PictureDecoder:
    """Decodes as many pictures in one call as fit, one alone in tiles where it does not fit whole."""

    def __init__(self, vae: AutoencoderKL) -> None:
        self.vae = vae

    def decode(self, latents: Tensor) -> Tensor:
        """(n, C, h, w) -> (n, H, W, 3) uint8 on the CPU.

        Raises:
            torch.OutOfMemoryError, RuntimeError: not even a tile fits.
        """
        try:
            return to_bytes(decode_latents(self.vae, latents)).cpu()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        # Past the handler, whose traceback would keep the failed call's tensors alive.
        release_memory(latents.device)
        if len(latents) > 1:
            return torch.cat([self.decode(half) for half in latents.chunk(2)])
        return self._decode_in_tiles(latents)

    def _decode_in_tiles(self, latents: Tensor) -> Tensor:
        """Tiles of half the picture's longer side that overlap and blend: nearly the same picture, a part at once."""
        vae = self.vae
        side = max(8, -(-max(latents.shape[-2:]) // 2))
        latent_px = 1 << (len(vae.config.block_out_channels) - 1)
        before = vae.tile_latent_min_size, vae.tile_sample_min_size, vae.tile_overlap_factor, vae.use_tiling
        vae.tile_latent_min_size, vae.tile_sample_min_size = side, side * latent_px
        vae.tile_overlap_factor, vae.use_tiling = TILE_OVERLAP, True
        try:
            return to_bytes(decode_latents(vae, latents)).cpu()
        finally:
            vae.tile_latent_min_size, vae.tile_sample_min_size, vae.tile_overlap_factor, vae.use_tiling = before
