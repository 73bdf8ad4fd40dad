"""Which of several pictures fits its prompt best, by Chinese-CLIP (SPEC §8.5), or CLIP for English prompts."""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from transformers import AutoConfig, ChineseCLIPModel, ChineseCLIPProcessor, CLIPModel, CLIPProcessor

from models.engines.oom import is_out_of_memory, release_memory

_CLASSES = {"chinese_clip": (ChineseCLIPModel, ChineseCLIPProcessor), "clip": (CLIPModel, CLIPProcessor)}


class Reranker:
    """A Chinese-CLIP or CLIP from a local folder, in float32.

    Args:
        folder: `config.json`, weights, image processor settings and vocabulary, as published.

    Raises:
        OSError: the folder lacks one of them, or holds another kind of model.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        if not folder.is_dir():
            raise FileNotFoundError(f"the reranker's folder {folder} does not exist")
        self.name = folder.name
        self.device = device
        kind = AutoConfig.from_pretrained(folder, local_files_only=True).model_type
        if kind not in _CLASSES:
            raise OSError(f"the reranker's folder {folder} holds a {kind}; allowed are {', '.join(_CLASSES)}")
        model_class, processor_class = _CLASSES[kind]
        self.model = model_class.from_pretrained(folder, local_files_only=True).to(device, torch.float32).eval()
        self.processor = processor_class.from_pretrained(folder, local_files_only=True)

    @torch.inference_mode()
    def scores(self, prompt: str, pictures: Sequence[Image.Image]) -> list[float]:
        """One score a picture, higher is better.

        The reference repeats the prompt for each picture and takes the diagonal of the logits; the prompt's column,
        computed once, holds the same numbers. A prompt longer than the text tower reads is cut. Pictures that do not
        fit into memory together are judged in halves.
        """
        try:
            return self._scores(prompt, pictures)
        except RuntimeError as error:
            if not is_out_of_memory(error) or len(pictures) == 1:
                raise
        release_memory(self.device)
        half = len(pictures) // 2
        return self.scores(prompt, pictures[:half]) + self.scores(prompt, pictures[half:])

    def _scores(self, prompt: str, pictures: Sequence[Image.Image]) -> list[float]:
        inputs = self.processor(
            text=[prompt],
            images=list(pictures),
            return_tensors="pt",
            padding=True,
            truncation=True,
            max_length=self.model.config.text_config.max_position_embeddings,
        )
        logits = self.model(**inputs.to(self.device)).logits_per_image  # (pictures, 1)
        scores: list[float] = logits[:, 0].tolist()
        return scores
