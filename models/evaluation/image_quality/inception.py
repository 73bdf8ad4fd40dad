"""The Inception v3 of the Fréchet distance: the TensorFlow network of 2015-12-05 with its resizing, on PyTorch.

Scores can be compared between papers only if they come from this very network, so it is kept to the letter: the
names are those of its converted weights, average pools leave the padding out of the mean, the last block pools the
maximum, and pictures are resized as TensorFlow 1 did.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, max_pool2d

WEIGHTS_FILE = "weights-inception-2015-12-05-6726825d.pth"
WEIGHTS_SOURCE = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{WEIGHTS_FILE}"
NUM_FEATURES = 2048
INPUT_SIDE_PX = 299

Kernel = int | tuple[int, int]
Pool = Literal["average", "maximum", "halving"]
UNUSED = ("fc.weight", "fc.bias")  # the classifier


class Convolution(nn.Module):
    """Without bias, then batch normalisation as it was trained, then ReLU."""

    def __init__(self, width: int, out_width: int, kernel: Kernel, stride: int = 1, padding: Kernel = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, out_width, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out_width, eps=0.001)

    def forward(self, states: Tensor) -> Tensor:
        return torch.relu(self.bn(self.conv(states)))


def same(width: int, out_width: int, kernel: Kernel) -> Convolution:
    """Keeps height and width."""
    height, across = (kernel, kernel) if isinstance(kernel, int) else kernel
    return Convolution(width, out_width, kernel, padding=(height // 2, across // 2))


class Block(nn.Module):
    """Paths of convolutions from one input, beside each other in the output; the pool's path comes last.

    Args:
        convolutions: by the names that the weights have.
        paths: names in the order they are run; paths with the same start share its work.
        pool: what the last path begins with; its convolution, if there is one, is `branch_pool`.
    """

    def __init__(self, convolutions: Mapping[str, Convolution], paths: Sequence[Sequence[str]], pool: Pool) -> None:
        super().__init__()
        for name, convolution in convolutions.items():
            self.add_module(name, convolution)
        self._paths = [tuple(path) for path in paths]
        self._pool = pool

    def forward(self, states: Tensor) -> Tensor:
        done: dict[tuple[str, ...], Tensor] = {(): states}
        for path in self._paths:
            for end in range(1, len(path) + 1):
                if path[:end] not in done:
                    done[path[:end]] = self.get_submodule(path[end - 1])(done[path[: end - 1]])
        pooled = self._pooled(states)
        if self._pool != "halving":
            pooled = self.get_submodule("branch_pool")(pooled)
        return torch.cat([*(done[path] for path in self._paths), pooled], dim=1)

    def _pooled(self, states: Tensor) -> Tensor:
        if self._pool == "halving":
            return max_pool2d(states, 3, stride=2)
        if self._pool == "maximum":
            return max_pool2d(states, 3, stride=1, padding=1)
        return avg_pool2d(states, 3, stride=1, padding=1, count_include_pad=False)


def _numbered(name: str, convolutions: Sequence[Convolution]) -> dict[str, Convolution]:
    return {f"{name}_{i}": convolution for i, convolution in enumerate(convolutions, 1)}


def _block_a(width: int, pool_width: int) -> Block:
    fives = _numbered("branch5x5", [same(width, 48, 1), same(48, 64, 5)])
    threes = _numbered("branch3x3dbl", [same(width, 64, 1), same(64, 96, 3), same(96, 96, 3)])
    ones = {"branch1x1": same(width, 64, 1)}
    pool = {"branch_pool": same(width, pool_width, 1)}
    return Block(ones | fives | threes | pool, [list(ones), list(fives), list(threes)], "average")


def _block_b(width: int) -> Block:
    threes = {"branch3x3": Convolution(width, 384, 3, stride=2)}
    doubles = _numbered("branch3x3dbl", [same(width, 64, 1), same(64, 96, 3), Convolution(96, 96, 3, stride=2)])
    return Block(threes | doubles, [list(threes), list(doubles)], "halving")


def _block_c(width: int, inner: int) -> Block:
    row, column = (1, 7), (7, 1)
    ones = {"branch1x1": same(width, 192, 1)}
    sevens = _numbered("branch7x7", [same(width, inner, 1), same(inner, inner, row), same(inner, 192, column)])
    doubles = _numbered(
        "branch7x7dbl",
        [
            same(width, inner, 1),
            same(inner, inner, column),
            same(inner, inner, row),
            same(inner, inner, column),
            same(inner, 192, row),
        ],
    )
    pool = {"branch_pool": same(width, 192, 1)}
    return Block(ones | sevens | doubles | pool, [list(ones), list(sevens), list(doubles)], "average")


def _block_d(width: int) -> Block:
    threes = _numbered("branch3x3", [same(width, 192, 1), Convolution(192, 320, 3, stride=2)])
    sevens = _numbered(
        "branch7x7x3",
        [
            same(width, 192, 1),
            same(192, 192, (1, 7)),
            same(192, 192, (7, 1)),
            Convolution(192, 192, 3, stride=2),
        ],
    )
    return Block(threes | sevens, [list(threes), list(sevens)], "halving")


def _block_e(width: int, pool: Pool) -> Block:
    convolutions = {
        "branch1x1": same(width, 320, 1),
        "branch3x3_1": same(width, 384, 1),
        "branch3x3_2a": same(384, 384, (1, 3)),
        "branch3x3_2b": same(384, 384, (3, 1)),
        "branch3x3dbl_1": same(width, 448, 1),
        "branch3x3dbl_2": same(448, 384, 3),
        "branch3x3dbl_3a": same(384, 384, (1, 3)),
        "branch3x3dbl_3b": same(384, 384, (3, 1)),
        "branch_pool": same(width, 192, 1),
    }
    threes, doubles = ["branch3x3_1"], ["branch3x3dbl_1", "branch3x3dbl_2"]
    paths = [
        ["branch1x1"],
        [*threes, "branch3x3_2a"],
        [*threes, "branch3x3_2b"],
        [*doubles, "branch3x3dbl_3a"],
        [*doubles, "branch3x3dbl_3b"],
    ]
    return Block(convolutions, paths, pool)


class Inception(nn.Module):
    """Pictures (B, 3, H, W) uint8 -> features (B, 2048) float32."""

    num_features = NUM_FEATURES

    def __init__(self) -> None:
        super().__init__()
        layers: dict[str, nn.Module] = {
            "Conv2d_1a_3x3": Convolution(3, 32, 3, stride=2),
            "Conv2d_2a_3x3": Convolution(32, 32, 3),
            "Conv2d_2b_3x3": same(32, 64, 3),
            "MaxPool_1": nn.MaxPool2d(3, stride=2),
            "Conv2d_3b_1x1": Convolution(64, 80, 1),
            "Conv2d_4a_3x3": Convolution(80, 192, 3),
            "MaxPool_2": nn.MaxPool2d(3, stride=2),
            "Mixed_5b": _block_a(192, 32),
            "Mixed_5c": _block_a(256, 64),
            "Mixed_5d": _block_a(288, 64),
            "Mixed_6a": _block_b(288),
            "Mixed_6b": _block_c(768, 128),
            "Mixed_6c": _block_c(768, 160),
            "Mixed_6d": _block_c(768, 160),
            "Mixed_6e": _block_c(768, 192),
            "Mixed_7a": _block_d(768),
            "Mixed_7b": _block_e(1280, "average"),
            "Mixed_7c": _block_e(2048, "maximum"),
        }
        for name, layer in layers.items():
            self.add_module(name, layer)
        self._order = list(layers)

    def forward(self, pixels: Tensor) -> Tensor:
        states = (resize(pixels.float(), INPUT_SIDE_PX) - 128) / 128  # (B, 3, 299, 299)
        for name in self._order:
            states = self.get_submodule(name)(states)
        return states.mean(dim=(2, 3))  # (B, 2048, 8, 8) -> (B, 2048)


def resize(pixels: Tensor, side_px: int) -> Tensor:
    """TensorFlow 1's bilinear resizing, (B, C, H, W) -> (B, C, S, S): corners on corners, nothing is smoothed."""
    return _resize_along(_resize_along(pixels, 3, side_px), 2, side_px)


def _resize_along(pixels: Tensor, dim: int, length: int) -> Tensor:
    present = pixels.shape[dim]
    places = torch.arange(length, device=pixels.device, dtype=torch.float32) * (present / length)
    below = places.long()
    above = (below + 1).clamp_max(present - 1)
    shape = [1] * pixels.ndim
    shape[dim] = length
    weight = (places - below).view(shape)
    low, high = pixels.index_select(dim, below), pixels.index_select(dim, above)
    return low + (high - low) * weight
