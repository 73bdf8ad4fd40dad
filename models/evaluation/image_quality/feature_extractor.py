"""What turns pictures into the features that a Fréchet distance is taken of, from a file on this machine.

Two kinds of file: the converted weights of the 2015 Inception (the usual choice, inception.py), or a TorchScript module
of any network. Nothing is ever fetched.
"""

import hashlib
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from models.evaluation.errors import EvaluationError
from models.evaluation.image_quality.inception import UNUSED, WEIGHTS_FILE, WEIGHTS_SOURCE, Inception

_NAMED_AT_MOST = 5


@dataclass(frozen=True)
class FeatureExtractor:
    """A network from pictures (B, 3, H, W) uint8 to features (B, num_features), and which file it is."""

    name: str
    sha256: str
    module: nn.Module
    num_features: int


def load_extractor(file: Path, device: torch.device, size_px: int) -> FeatureExtractor:
    """The network of a file.

    Args:
        size_px: side of the pictures that a TorchScript module will get.

    Raises:
        EvaluationError: no such file, or neither Inception's weights nor a TorchScript module of features.
    """
    if not file.is_file():
        raise EvaluationError(
            f"{file}: no such file. The Fréchet distance needs {WEIGHTS_FILE}, to be had from {WEIGHTS_SOURCE} "
            "(as .pth, or the same tensors as .safetensors), or a TorchScript module from pictures to features"
        )
    module = _scripted(file, size_px) if _is_torch_script(file) else _inception(file)
    module.to(device).eval().requires_grad_(False)
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    return FeatureExtractor(file.name, digest, module, module.num_features)


class ScriptedFeatures(nn.Module):
    """A TorchScript module, with the argument `return_features` where it has one, as StyleGAN's Inception does."""

    def __init__(self, scripted: Any, num_features: int = 0) -> None:
        super().__init__()
        self.scripted = scripted
        self.num_features = num_features
        names = [argument.name for argument in scripted.forward.schema.arguments]
        self._more = {"return_features": True} if "return_features" in names else {}

    def forward(self, pixels: Tensor) -> Tensor:
        features: Tensor = self.scripted(pixels, **self._more)
        return features


def _scripted(file: Path, size_px: int) -> ScriptedFeatures:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the format stays that of the files there are
        module = ScriptedFeatures(torch.jit.load(file, map_location="cpu"))
    try:
        with torch.inference_mode():
            features = module(torch.zeros(2, 3, size_px, size_px, dtype=torch.uint8))
    except RuntimeError as error:
        line = str(error).strip().splitlines()[-1]
        raise EvaluationError(f"{file}: cannot take pictures (2, 3, {size_px}, {size_px}) of uint8: {line}") from None
    if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != 2:
        got = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise EvaluationError(f"{file}: features (2, N) are expected of two pictures, got {got}")
    module.num_features = features.shape[1]
    return module


def _inception(file: Path) -> Inception:
    weights = _weights(file)
    module = Inception()
    wanted = {name for name in module.state_dict() if not name.endswith("num_batches_tracked")}
    absent, unknown = wanted - weights.keys(), weights.keys() - module.state_dict().keys() - set(UNUSED)
    if absent or unknown:
        listed = sorted(absent)[:_NAMED_AT_MOST] or sorted(unknown)[:_NAMED_AT_MOST]
        raise EvaluationError(
            f"{file}: not the weights of the 2015 Inception: {len(absent)} tensors are missing and {len(unknown)} "
            f"unknown, such as {', '.join(listed)}; expected is {WEIGHTS_FILE} from {WEIGHTS_SOURCE}"
        )
    try:
        module.load_state_dict({name: weights[name] for name in wanted}, strict=False)
    except RuntimeError as error:
        raise EvaluationError(f"{file}: {error}") from None
    return module


def _weights(file: Path) -> Mapping[str, Tensor]:
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        content = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, SafetensorError, RuntimeError, ValueError, EOFError, KeyError) as error:
        line = (str(error) or type(error).__name__).splitlines()[0]
        raise EvaluationError(f"{file}: neither a file of tensors nor a TorchScript module: {line}") from None
    if not isinstance(content, Mapping):
        raise EvaluationError(f"{file}: holds a {type(content).__name__}, a dictionary of tensors is expected")
    return content


def _is_torch_script(file: Path) -> bool:
    """TorchScript archives hold code beside the tensors."""
    if not zipfile.is_zipfile(file):
        return False
    with zipfile.ZipFile(file) as archive:
        return any("/code/" in name for name in archive.namelist())
