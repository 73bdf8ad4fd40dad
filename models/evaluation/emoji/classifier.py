"""A small network that names a picture of one emoji, trained apart from the models that it judges.

It shares nothing with them but the drawings: its pictures are composed here, from a seed of its own, it has never seen
a painted picture, and its weights lie in the package so that an evaluation can be repeated.
"""
# ruff: noqa: T201 (a command line speaks by print)

import argparse
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from models.datasets.examples import PixelArray
from models.emoji.drawings import DrawingError, Drawings, Style, shared_drawings
from models.emoji.names import emoji_names
from models.evaluation.errors import EvaluationError

SIDE_PX = 64
FILE = Path(__file__).parent / "data" / "classifier.safetensors"

STYLES: tuple[Style, ...] = ("twemoji", "noto")
SEED = 20_250_731  # used for nothing else
STEPS = 5000
BATCH_SIZE = 64
PEAK_LEARNING_RATE = 4e-3
WARM_UP_STEPS = 300
WEIGHT_DECAY = 0.02
LABEL_SMOOTHING = 0.05
_REPORT_EVERY = 100  # steps


class Classifier(nn.Module):
    """(B, 3, 64, 64) in -1..1 -> logits (B, N) of the emoji in `codes`; 0.46 M parameters for 829 of them."""

    side_px = SIDE_PX

    def __init__(self, codes: Sequence[str]) -> None:
        super().__init__()
        self.codes = tuple(codes)
        self.features = nn.Sequential(
            _convolution(3, 24, kernel=5, stride=2),  # (B, 24, 32, 32)
            _convolution(24, 48, stride=2),
            _convolution(48, 96, stride=2),
            Residual(96),
            _convolution(96, 192, stride=2),  # (B, 192, 4, 4)
        )
        self.head = nn.Linear(192, len(self.codes))

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(pixels).mean((2, 3)))
        return logits

    @torch.inference_mode()
    def recognise(self, pictures: Sequence[PixelArray]) -> list[str]:
        """The code that each picture, of any side, most likely shows."""
        device = self.head.weight.device
        codes: list[str] = []
        for start in range(0, len(pictures), 256):
            pixels = to_tensor(pictures[start : start + 256]).to(device)
            codes.extend(self.codes[place] for place in self(pixels).argmax(1).tolist())
        return codes


class Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block = _convolution(channels, channels)

    def forward(self, features: Tensor) -> Tensor:
        return features + self.block(features)


def _convolution(channels: int, out_channels: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, out_channels, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


def to_tensor(pictures: Sequence[PixelArray]) -> Tensor:
    """uint8 pictures (S, S, 3) of any sides -> (B, 3, 64, 64) float32 in -1..1."""
    small = np.stack([resized(picture, SIDE_PX) for picture in pictures])
    return torch.from_numpy(small).permute(0, 3, 1, 2).float() / 127.5 - 1


def resized(picture: PixelArray, side_px: int) -> PixelArray:
    """A picture at another side, bicubic as the service's own resizing."""
    if picture.shape[0] == side_px:
        return picture
    return np.array(Image.fromarray(picture).resize((side_px, side_px), Image.Resampling.BICUBIC))


def write_classifier(classifier: Classifier, file: Path, recipe: dict[str, str]) -> None:
    """Weights in float16, with the codes and how it was trained."""
    file.parent.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous().cpu()
        for name, tensor in classifier.state_dict().items()
    }
    save_file(tensors, file, metadata={**recipe, "codes": " ".join(classifier.codes)})


def load_classifier(file: Path = FILE) -> Classifier:
    """In eval mode, float32.

    Raises:
        EvaluationError: there is no such file, or it holds another network.
    """
    try:
        with safe_open(file, framework="pt") as opened:
            classifier = Classifier(opened.metadata()["codes"].split(" "))
            classifier.load_state_dict({name: opened.get_tensor(name) for name in opened.keys()})  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, TypeError, RuntimeError) as error:
        raise EvaluationError(
            f"{file}: no usable classifier ({str(error).splitlines()[0]}); `viscpm evaluate train-classifier` makes one"
        ) from error
    return classifier.requires_grad_(False).eval()


@dataclass(frozen=True)
class Sprites:
    """All drawings in one size, colours multiplied by opacity: (N * styles, 4, 64, 64) uint8, and what each shows."""

    pixels: Tensor
    labels: Tensor  # (N * styles,) int64, places in the list of codes

    @classmethod
    def of(cls, codes: Sequence[str], styles: Sequence[Drawings]) -> "Sprites":
        drawn = [(place, style) for style in styles for place, code in enumerate(codes) if style.draws(code)]
        sprites = np.stack([sprite(style.drawing(codes[place])) for place, style in drawn])
        return cls(torch.from_numpy(sprites), torch.tensor([place for place, _ in drawn]))


def sprite(drawing: Image.Image) -> PixelArray:
    """A drawing (RGBA) fitted into the square: (4, 64, 64)."""
    premultiplied = drawing.convert("RGBa")
    ratio = SIDE_PX / max(drawing.size)
    size = (max(1, round(drawing.width * ratio)), max(1, round(drawing.height * ratio)))
    square = Image.new("RGBa", (SIDE_PX, SIDE_PX))
    square.paste(premultiplied.resize(size), ((SIDE_PX - size[0]) // 2, (SIDE_PX - size[1]) // 2))
    return np.asarray(square).transpose(2, 0, 1)


def compose(sprites: Sprites, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """`count` pictures (B, 3, 64, 64) in -1..1 of one object each, and their labels (B,).

    Half the grounds are nearly white, as a painting by name alone has it; the others are any colour, shaded.
    """

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator) * (high - low) + low

    chosen = torch.randint(len(sprites.labels), (count,), generator=generator)
    size = 1 - 0.6 * torch.rand(count, generator=generator) ** 1.5  # of the side: 0.4 to 1, more of the large ones
    angle = torch.randn(count, generator=generator) * 0.12
    centre = uniform(-1, 1, count, 2) * (1.05 - size)[:, None]
    # From places in the picture to places in the sprite: (p - centre) turned and divided by the size.
    turn = torch.stack([angle.cos(), angle.sin(), -angle.sin(), angle.cos()], dim=1).view(count, 2, 2)
    turn = turn / size[:, None, None]
    shift = -(turn @ centre[:, :, None])
    grid = functional.affine_grid(torch.cat([turn, shift], dim=2), [count, 4, SIDE_PX, SIDE_PX], align_corners=False)
    placed = functional.grid_sample(sprites.pixels[chosen].float() / 255, grid, align_corners=False)

    plain = torch.where(uniform(0, 1, count, 1) < 0.5, uniform(0.93, 1, count, 3), uniform(0, 1, count, 3))
    slope = uniform(-0.12, 0.12, count, 1, 1, 1) * torch.linspace(-1, 1, SIDE_PX)[:, None]  # (B, 1, S, 1)
    grounds = (plain[:, :, None, None] + slope).clamp(0, 1)
    pictures = placed[:, :3] + (1 - placed[:, 3:]) * grounds
    return _disturb(pictures, uniform) * 2 - 1, sprites.labels[chosen]


def _disturb(pictures: Tensor, uniform: Callable[..., Tensor]) -> Tensor:
    """Blur, tint and noise of a camera's or a painter's kind, on (B, 3, S, S) in 0..1."""
    count = len(pictures)
    if uniform(0, 1, 1) < 0.5:
        small = round(SIDE_PX * uniform(0.4, 0.9, 1).item())
        blurred = functional.interpolate(pictures, size=(small, small), mode="area")
        pictures = functional.interpolate(blurred, size=(SIDE_PX, SIDE_PX), mode="bilinear")
    contrast, tint = uniform(0.85, 1.1, count, 1, 1, 1), uniform(-0.06, 0.06, count, 3, 1, 1)
    noise = uniform(-0.08, 0.08, *pictures.shape) * uniform(0, 1, count, 1, 1, 1)
    return ((pictures - 0.5) * contrast + 0.5 + tint + noise).clamp(0, 1)


def learning_rate(step: int, steps: int) -> float:
    """Linear warm-up, then half a cosine to zero."""
    warm_up = min(1.0, (step + 1) / min(WARM_UP_STEPS, steps))
    return PEAK_LEARNING_RATE * warm_up * 0.5 * (1 + math.cos(math.pi * step / steps))


class Training:
    """One run, which goes on from its last saved step wherever it was stopped.

    Args:
        state_file: where the run keeps itself; it is removed at the end.
    """

    def __init__(self, codes: Sequence[str], steps: int, seed: int, state_file: Path) -> None:
        torch.manual_seed(seed)  # of the initial weights
        # Channels last is a third faster on CPUs.
        self.classifier = Classifier(codes).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        self.step = 0
        self._steps = steps
        self._state_file = state_file
        self._optimiser = torch.optim.AdamW(self.classifier.parameters(), weight_decay=WEIGHT_DECAY, fused=True)
        self._generator = torch.Generator().manual_seed(seed)
        self._about = {"codes": list(codes), "steps": steps, "seed": seed}

    def resume(self) -> None:
        """Takes up a stopped run of the same kind; another's state is left alone and overwritten later."""
        if not self._state_file.is_file():
            return
        state = torch.load(self._state_file, weights_only=True)
        if state["about"] == self._about:
            self.step = state["step"]
            self.classifier.load_state_dict(state["classifier"])
            self._optimiser.load_state_dict(state["optimiser"])
            self._generator.set_state(state["generator"])

    def run(self, sprites: Sprites, batch_size: int = BATCH_SIZE) -> Classifier:
        """To the last step; tells loss, accuracy and the time that is left every hundred steps."""
        started_s, started_at = time.perf_counter(), self.step
        losses, hits = 0.0, 0
        while self.step < self._steps:
            loss, right = self._learn(*compose(sprites, batch_size, self._generator))
            losses, hits = losses + loss, hits + right
            self.step += 1
            if self.step % _REPORT_EVERY == 0:
                left_s = (time.perf_counter() - started_s) / (self.step - started_at) * (self._steps - self.step)
                print(
                    f"step {self.step} of {self._steps}  loss {losses / _REPORT_EVERY:.3f}  "
                    f"accuracy {hits / _REPORT_EVERY / batch_size:.3f}  {left_s / 60:.1f} min left",
                    flush=True,
                )
                losses, hits = 0.0, 0
                self._save()
        self._state_file.unlink(missing_ok=True)
        return self.classifier.eval()

    def _learn(self, pictures: Tensor, labels: Tensor) -> tuple[float, int]:
        """One step: its loss, and how many of the batch were right."""
        logits = self.classifier(pictures.contiguous(memory_format=torch.channels_last))
        loss = functional.cross_entropy(logits, labels, label_smoothing=LABEL_SMOOTHING)
        for group in self._optimiser.param_groups:
            group["lr"] = learning_rate(self.step, self._steps)
        self._optimiser.zero_grad()
        loss.backward()
        self._optimiser.step()
        return loss.item(), int((logits.argmax(1) == labels).sum())

    def _save(self) -> None:
        state = {
            "about": self._about,
            "step": self.step,
            "classifier": self.classifier.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "generator": self._generator.get_state(),
        }
        partial = self._state_file.with_name(self._state_file.name + ".new")
        torch.save(state, partial)
        partial.rename(self._state_file)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", type=Path, default=FILE, metavar="FILE", help="default: the one in the package")
    parser.add_argument("--steps", type=int, default=STEPS, metavar="N", help=f"of {BATCH_SIZE} pictures ({STEPS})")
    parser.add_argument("--seed", type=int, default=SEED)


def run(options: argparse.Namespace) -> int:
    """Trains and writes; the defaults made the file in the package."""
    if options.steps < 1:
        raise EvaluationError(f"--steps is {options.steps}; at least 1 is needed")
    codes = [name.code for name in emoji_names()]
    try:
        sprites = Sprites.of(codes, [shared_drawings(style) for style in STYLES])
    except DrawingError as error:  # it judges paintings of names that one style alone may lack: both or none
        raise EvaluationError(str(error)) from error
    options.output.parent.mkdir(parents=True, exist_ok=True)
    training = Training(codes, options.steps, options.seed, options.output.with_suffix(".state"))
    training.resume()
    print(f"{len(codes)} names, {len(sprites.labels)} drawings, {training.step} steps done", flush=True)
    classifier = training.run(sprites)
    recipe = {"steps": str(options.steps), "seed": str(options.seed), "styles": " ".join(STYLES)}
    write_classifier(classifier, options.output, recipe)
    print(f"{options.output}  {options.output.stat().st_size:,} bytes")
    return 0
