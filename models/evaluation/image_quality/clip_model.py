"""A CLIP from a local folder, in the form that torchmetrics' CLIPScore takes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, ChineseCLIPModel, ChineseCLIPProcessor, CLIPModel, CLIPProcessor

from models.evaluation.errors import EvaluationError

CLASSES = {"clip": (CLIPModel, CLIPProcessor), "chinese_clip": (ChineseCLIPModel, ChineseCLIPProcessor)}
ENGLISH_SOURCE = "https://huggingface.co/openai/clip-vit-base-patch16"
CHINESE_SOURCE = "https://huggingface.co/OFA-Sys/chinese-clip-vit-huge-patch14"


class Clip(nn.Module):
    """Both towers as plain tensors: transformers 5 wraps what CLIPScore expects bare."""

    model: Any  # of transformers, which has no types here

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.config = model.config

    def get_image_features(self, pixel_values: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, D)."""
        return _bare(self.model.get_image_features(pixel_values=pixel_values))

    def get_text_features(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, L) twice -> (B, D)."""
        return _bare(self.model.get_text_features(input_ids=input_ids, attention_mask=attention_mask))


class ClipProcessor:
    """Cuts long captions as the model was trained, with the end token kept; CLIPScore itself would cut that off."""

    def __init__(self, processor: Any, max_tokens: int) -> None:
        self._processor = processor
        self._max_tokens = max_tokens

    def __call__(self, text: Sequence[str] | None = None, images: Sequence[Tensor] | None = None, **others: Any) -> Any:
        if text is not None:
            return self._processor(text=list(text), truncation=True, max_length=self._max_tokens, **others)
        others.pop("padding", None)  # of texts; the pictures' processor has none
        return self._processor(images=images, **others)


def load_clip(folder: Path, device: torch.device) -> tuple[Clip, ClipProcessor]:
    """A CLIP or, for Chinese captions, a Chinese-CLIP, in float32.

    Raises:
        EvaluationError: no folder with such a model.
    """
    expected = f"expected is a folder with all files of {ENGLISH_SOURCE} or, for Chinese, {CHINESE_SOURCE}"
    if not (folder / "config.json").is_file():
        raise EvaluationError(f"{folder}: holds no config.json; {expected}")
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        if config.model_type not in CLASSES:
            raise EvaluationError(f"{folder}: a {config.model_type} model; {expected}")
        model_class, processor_class = CLASSES[config.model_type]
        model = model_class.from_pretrained(folder, local_files_only=True)
        processor = processor_class.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        line = str(error).splitlines()[0]
        raise EvaluationError(f"{folder}: {line}; {expected}") from error
    clip = Clip(model.to(device, torch.float32).eval().requires_grad_(False))
    return clip, ClipProcessor(processor, config.text_config.max_position_embeddings)


def _bare(output: Any) -> Tensor:
    features: Tensor = output if isinstance(output, Tensor) else output.pooler_output
    return features
