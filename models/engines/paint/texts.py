"""What the UNet attends to, of texts: by the language model once, afterwards from a small cache."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import fields, replace

import torch
from torch import Tensor

from models.engines.offload.transient_layers import TransientLayers
from models.engines.oom import is_out_of_memory, release_memory
from models.jobs import JobRejected
from models.networks.cpm_bee.packing import PackedBatch
from models.networks.paint.model import PaintModel

CACHE_BYTES = 64 << 20  # of a worker: 500 texts of 32 tokens at width 1024 in float32


class TextEncoder:
    """Conditioning of packed texts. Least recently used texts make room.

    A text is known by its tokens and by the length that it is padded to: the UNet attends to the padding (SPEC §8.1).
    """

    def __init__(self, model: PaintModel, device: torch.device, max_bytes: int = CACHE_BYTES) -> None:
        self.model = model
        self.device = device
        self.max_bytes = max_bytes
        self.num_bytes = 0
        self._known: OrderedDict[bytes, Tensor] = OrderedDict()

    @torch.inference_mode()
    def encode(self, texts: PackedBatch) -> Tensor:
        """Conditioning (B, L, cross attention width) in the adapter's dtype.

        Raises:
            JobRejected: `generation_failed` where hidden states are not finite.
        """
        keys = [row_key(texts, row) for row in range(len(texts.ids))]
        states = {key: self._known[key] for key in keys if key in self._known}
        missing = [row for row, key in enumerate(keys) if key not in states]
        if missing:
            encoded = self._run(texts, missing)  # (missing, L, W)
            if not torch.isfinite(encoded).all():
                raise JobRejected("generation_failed", "the prompt's hidden states are not finite")
            states |= {keys[row]: state.clone() for row, state in zip(missing, encoded, strict=True)}
        for key in keys:
            self._keep(key, states[key])
        return torch.stack([states[key] for key in keys])

    def values(self) -> list[Tensor]:
        """All that are known."""
        return list(self._known.values())

    def _run(self, texts: PackedBatch, rows: Sequence[int]) -> Tensor:
        """Rows through the language model at once, or one by one where that takes too much memory."""
        try:
            return self.model.encode_prompts(select_rows(texts, rows).to(self.device))
        except RuntimeError as error:
            if not is_out_of_memory(error) or len(rows) == 1:
                raise
        release_memory(self.device)
        return torch.cat([self._run(texts, [row]) for row in rows])

    def rest(self) -> None:
        """Gives the language model's part of the device to the pictures, where its layers come and go."""
        if isinstance(self.model.llm.layers, TransientLayers):
            self.model.llm.layers.rest()

    def _keep(self, key: bytes, state: Tensor) -> None:
        if key not in self._known:
            self.num_bytes += _num_bytes(key, state)
        self._known[key] = state
        self._known.move_to_end(key)
        while self.num_bytes > self.max_bytes:
            self.num_bytes -= _num_bytes(*self._known.popitem(last=False))


def row_key(texts: PackedBatch, row: int) -> bytes:
    """All that the language model is given of a row, padding included."""
    tensors = (value for field in fields(texts) if isinstance(value := getattr(texts, field.name), Tensor))
    rows = [tensor[row].numpy().tobytes() for tensor in tensors if len(tensor) == len(texts.ids) and tensor.ndim == 2]
    return b"".join([texts.ids.shape[1].to_bytes(8, "little"), int(texts.lengths[row]).to_bytes(8, "little"), *rows])


def select_rows(texts: PackedBatch, rows: Sequence[int]) -> PackedBatch:
    """The same batch with these rows alone, as long as before."""
    num_rows, chosen = len(texts.ids), list(rows)
    if chosen == list(range(num_rows)):
        return texts
    changed: dict[str, object] = {}
    for field in fields(texts):
        value = getattr(texts, field.name)
        if field.name in ("extension_ids", "extension_subs", "padding"):  # of all rows
            continue
        changed[field.name] = value[chosen] if isinstance(value, Tensor) else [value[row] for row in chosen]
    return replace(texts, **changed)  # type: ignore[arg-type]


def _num_bytes(key: bytes, state: Tensor) -> int:
    return len(key) + state.nbytes
