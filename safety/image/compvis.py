"""The release's image screen: the CompVis safety checker with the CLIP processor, from configured local weights.

Covered: what the checker's seventeen concepts and its special-care ones flag, all of them sexual; the pixels go in as
they are, 0 to 255, and are scaled once (the reference fed wrapped ones, SPEC §11.6).
Not covered: gore, violence and everything else; how sure it is, since it says yes or no.

This module imports torch. The safety worker's engine loads it.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from PIL import Image
from transformers import CLIPImageProcessor

from safety.fingerprint import fingerprint, small_files

_MAX_BATCH = 8


class CompVisChecker:
    """Says yes (1) or no (0)."""

    name = "compvis"

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        """Load weights and, where the folder has one, the processor's configuration; the network is never asked."""
        checker = StableDiffusionSafetyChecker.from_pretrained(folder, local_files_only=True, torch_dtype=torch.float32)
        self._checker = checker.to(device).eval()
        has_own = (folder / "preprocessor_config.json").is_file()
        # Without a file: as openai/clip-vit-base-patch32 has it, whose values are the class's own.
        self._processor = (
            CLIPImageProcessor.from_pretrained(folder, local_files_only=True) if has_own else CLIPImageProcessor()
        )
        self._device = device
        packages = ("diffusers", "numpy", "pillow", "torch", "transformers")
        self.fingerprint = fingerprint(__file__, packages, (*small_files(folder), *_tensors(self._checker)))

    @torch.inference_mode()
    def scores(self, pictures: Sequence[Image.Image]) -> list[dict[str, float]]:
        flags: list[bool] = []
        for first in range(0, len(pictures), _MAX_BATCH):
            batch = list(pictures[first : first + _MAX_BATCH])
            pixels = self._processor(batch, return_tensors="pt").pixel_values  # (B, 3, 224, 224)
            # It blackens what it flags; these stand in for the pictures, which are not to be changed.
            blank = np.zeros((len(batch), 1, 1, 3), np.float32)
            flags += self._checker(clip_input=pixels.to(self._device), images=blank)[1]
        return [{"sexual": float(flag)} for flag in flags]


def _tensors(checker: torch.nn.Module) -> Iterable[bytes | memoryview]:
    """Name and values of each: 1.2 GB, in a second."""
    for name, tensor in checker.state_dict().items():
        yield name.encode()
        yield memoryview(tensor.cpu().contiguous().numpy())
