"""The prompt checker of the Paint release: a BERT classifier of Chinese prompts, from configured local weights.

Covered: the release's decision (SPEC §1.3): a prompt is refused when the unsafe label is the highest one and its
probability is above the threshold, 0.75 in the policy. Long texts are read in overlapping windows; the worst counts.
Not covered: which kind of harm it is, other languages, and what the label names inside a checkpoint mean: the unsafe
one is configured.

This module imports torch and transformers. The safety worker loads it by its dotted name; nothing imports it.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from safety.categories import UNSAFE
from safety.fingerprint import fingerprint, small_files
from safety.text.language import Language

UNSAFE_LABEL = "LABEL_1"
_STRIDE_TOKENS = 64
_MAX_WINDOWS = 32


class BertChecker:
    """Scores texts in batches of at most 32 windows. `fingerprint` changes whenever its scores may."""

    name = "prompt-checker"
    languages: frozenset[Language] = frozenset(("zh",))  # English makes it answer at random

    def __init__(self, folder: Path, device: str = "cpu", unsafe_label: str = UNSAFE_LABEL) -> None:
        """Load config, tokenizer and weights from a folder; the network is never asked.

        Raises:
            ValueError: the folder is not there, or its classifier has no such label beside another one.
        """
        if not folder.is_dir():
            raise ValueError(f"the prompt checker's folder {folder} does not exist")
        self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
        self._model = model.to(device).eval()
        labels = {str(label): int(number) for number, label in model.config.id2label.items()}
        if unsafe_label not in labels or len(labels) < 2:
            raise ValueError(
                f"the prompt checker has the labels {', '.join(labels)}, got {unsafe_label!r} as the unsafe one"
            )
        self._unsafe = labels[unsafe_label]
        self._window_tokens = int(model.config.max_position_embeddings)
        self._device = device
        parts = (unsafe_label.encode(), *small_files(folder), *_tensors(model))
        self.fingerprint = fingerprint(__file__, ("tokenizers", "torch", "transformers"), parts)

    @torch.inference_mode()
    def scores(self, texts: Sequence[str], roles: Sequence[str] = ()) -> list[dict[str, float]]:
        """For each text the unsafe label's probability where that is the highest label, else 0; whoever says it."""
        windows = self._tokenizer(
            list(texts),
            truncation=True,
            max_length=self._window_tokens,
            stride=min(_STRIDE_TOKENS, self._window_tokens // 4),
            return_overflowing_tokens=True,
            padding=True,
            return_tensors="pt",
        )
        owners = windows.pop("overflow_to_sample_mapping").tolist()
        worst = [0.0] * len(texts)
        for first in range(0, len(owners), _MAX_WINDOWS):
            batch = {name: values[first : first + _MAX_WINDOWS].to(self._device) for name, values in windows.items()}
            probabilities = self._model(**batch).logits.float().softmax(-1)  # (B, labels)
            is_top = probabilities.argmax(-1) == self._unsafe
            unsafe = (probabilities[:, self._unsafe] * is_top).tolist()
            for owner, score in zip(owners[first : first + _MAX_WINDOWS], unsafe, strict=True):
                worst[owner] = max(worst[owner], score)
        return [{UNSAFE: score} for score in worst]


def _tensors(model: torch.nn.Module) -> Iterable[bytes | memoryview]:
    """Name and values of each."""
    for name, tensor in model.state_dict().items():
        yield name.encode()
        yield memoryview(tensor.cpu().contiguous().numpy())
