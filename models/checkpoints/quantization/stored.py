"""Quantized weights as checkpoint folders keep them: plain tensors beside the others, named here and nowhere else.

The published weight `W` becomes `W.int8` and `W.scales`, or `W.int4`, `W.scales` and `W.zeros` (shapes and dtypes:
networks/cpm_bee/quantized_linear.py), and `quantization` in config.json names the folder's format. A folder of int4
holds int8 where the groups of int4 do not divide a layer's inputs.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from models.checkpoints.quantization.rounding import quantize
from models.checkpoints.tensor_files import CheckpointError, MappedTensors
from models.jobs import Quantization
from models.networks.cpm_bee.quantized_linear import Int4Linear, Int8Linear, QuantizedLinear

CONFIG_FIELD = "quantization"
_LAYERS: Mapping[str, type[QuantizedLinear]] = {"int8": Int8Linear, "int4": Int4Linear}
_PART = re.compile(r"(.+\.weight)\.(int8|int4|scales|zeros)")
# By our names: the linear layers of the language model. Its embedding, which projects onto the vocabulary too, stays.
_QUANTIZABLE = re.compile(
    r"llm\.layers\.\d+\.(attention\.(query|key|value|output)|feed_forward\.(gate|up|down))\.weight"
)


@dataclass(frozen=True)
class StoredWeight:
    """One quantized weight of a checkpoint: the layer that it makes, and its parts' names in that layer's order."""

    layer: type[QuantizedLinear]
    names: tuple[str, ...]
    shape: tuple[int, int]


def is_quantizable(ours: str) -> bool:
    """Whether the parameter of this name is one that quantization changes."""
    return _QUANTIZABLE.fullmatch(ours) is not None


def stored_weights(tensors: Mapping[str, Tensor], file: Path) -> dict[str, StoredWeight]:
    """Published name -> what is stored of it, for all quantized weights.

    Raises:
        CheckpointError: a part is missing, or has not the shape or dtype that goes with the others.
    """
    found: dict[str, dict[str, str]] = {}
    for name in tensors:
        if part := _PART.fullmatch(name):
            found.setdefault(part[1], {})[part[2]] = name
    return {weight: _stored_weight(weight, names, tensors, file) for weight, names in found.items()}


def _stored_weight(weight: str, names: Mapping[str, str], tensors: Mapping[str, Tensor], file: Path) -> StoredWeight:
    form = "int4" if "int4" in names else "int8"
    layer = _LAYERS[form]
    wanted = (form, *layer.parts[1:])
    if set(wanted) != names.keys():
        raise CheckpointError(f"{file}: of the quantized {weight} it has {', '.join(sorted(names))} alone")
    values, *_ = parts = [tensors[names[part]] for part in wanted]
    shape = values.shape[0], values.shape[-1] * (2 if form == "int4" else 1)
    if [(tuple(part.shape), part.dtype) for part in parts] != layer.part_shapes(*shape):
        raise CheckpointError(f"{file}: the parts of the quantized {weight} do not fit one another")
    return StoredWeight(layer, tuple(names[part] for part in wanted), shape)


def stored_quantization(weights: Collection[StoredWeight], field: object, file: Path) -> Quantization:
    """The format of a checkpoint in whose configuration stands `field`.

    Raises:
        CheckpointError: its tensors are of another one.
    """
    formats = {weight.layer.format for weight in weights}
    found: Quantization = "int4" if "int4" in formats else "int8" if formats else "off"
    if field in (None, found):
        return found
    if (field, found) == ("int4", "int8"):  # no layer's inputs can be divided into groups
        return "int4"
    raise CheckpointError(f"{file}: its configuration says quantization {field!r}, its tensors are {found}")


def chosen_quantization(stored: Quantization, wanted: Quantization, file: Path) -> Quantization:
    """What a model gets whose checkpoint is `stored`.

    Raises:
        CheckpointError: it is quantized in another way than wanted.
    """
    if stored != "off" and wanted not in ("off", stored):
        raise CheckpointError(
            f"{file}: quantized to {stored} already, but {wanted} is wanted; that needs the checkpoint it was made of"
        )
    return wanted if stored == "off" else stored


def refuse_quantized(quantization: Quantization, file: Path, deed: str) -> None:
    """Raises CheckpointError for a quantized checkpoint, which cannot be trained or averaged."""
    if quantization != "off":
        raise CheckpointError(f"{file}: quantized to {quantization}, which cannot be {deed}; take what it was made of")


def quantized_tensors(
    tensors: MappedTensors, parameters: Mapping[str, str], quantization: Quantization
) -> Iterator[tuple[str, Tensor]]:
    """All tensors of a checkpoint with those of the linear layers quantized, one by one, in the order of names.

    Args:
        parameters: published name -> ours.
    """
    for name in sorted(tensors):
        if not is_quantizable(parameters.get(name, "")):
            yield name, tensors[name]
            continue
        layer = quantize(tensors[name], quantization, release=tensors.release)
        yield f"{name}.{layer.format}", getattr(layer, layer.parts[0])
        for part in layer.parts[1:]:
            yield f"{name}.{part}", getattr(layer, part)
