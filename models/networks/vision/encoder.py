"""BEiT-3 vision tower with query tokens: two sets of weights, one joint attention (SPEC §5).

Image tokens and query tokens run through an expert of their own and meet only in the attention. Without query tokens
the same tower encodes the picture alone.

Shapes: B batch, N image tokens (class token first), Q query tokens, W width, H heads.
"""

import math
from collections.abc import Generator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.vision.config import NUM_KEPT_POSITIONS, POSITION_OFFSET, VisionConfig


class ExpertAttention(nn.Module):
    """One expert's projections around the shared attention."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.query = nn.Linear(config.width, config.width)
        self.key = nn.Linear(config.width, config.width)
        self.value = nn.Linear(config.width, config.width)
        self.output_norm = nn.LayerNorm(config.width, config.eps)
        self.output = nn.Linear(config.width, config.width)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, L, W) -> query, key, value (B, H, L, W / H)."""
        return self.queries(x), *self.keys_and_values(x)

    def queries(self, x: Tensor) -> Tensor:
        """(B, L, W) -> (B, H, L, W / H)."""
        return self._heads(self.query(x))

    def keys_and_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, L, W) -> key, value (B, H, L, W / H)."""
        return self._heads(self.key(x)), self._heads(self.value(x))

    def merge(self, attended: Tensor) -> Tensor:
        """(B, H, L, W / H) -> (B, L, W)."""
        return self.output(self.output_norm(attended.transpose(1, 2).flatten(2)))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (B, H, L, W / H)


class ExpertFeedForward(nn.Module):
    """up, exact gelu, norm over the wide activations, down."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.up = nn.Linear(config.width, config.dim_ff)
        self.norm = nn.LayerNorm(config.dim_ff, config.eps)
        self.down = nn.Linear(config.dim_ff, config.width)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.norm(F.gelu(self.up(x))))


class Expert(nn.Module):
    """One layer's weights for one kind of token."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.width, config.eps)
        self.attention = ExpertAttention(config)
        self.feed_forward_norm = nn.LayerNorm(config.width, config.eps)
        self.feed_forward = ExpertFeedForward(config)

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """Both residual sums of the layer, given this expert's part of the attention's outcome."""
        x = x + self.attention.merge(attended)
        return x + self.feed_forward(self.feed_forward_norm(x))


class VisionLayer(nn.Module):
    """Pre-norm layer: separate experts, joint attention without a mask."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.image_expert = Expert(config)
        self.query_expert = Expert(config)

    def forward(self, image: Tensor, queries: Tensor, reads_alone: bool = False) -> tuple[Tensor, Tensor]:
        """image (B, N, W), queries (B, Q, W) -> the same shapes.

        Args:
            reads_alone: the queries read the image tokens, which stay as they are; after the last layer nobody asks
                for them.
        """
        image_attention, query_attention = self.image_expert.attention, self.query_expert.attention
        normed = self.image_expert.attention_norm(image)
        query, *own = query_attention.project(self.query_expert.attention_norm(queries))  # (B, H, Q, W / H) each
        key, value = (torch.cat(pair, dim=2) for pair in zip(image_attention.keys_and_values(normed), own, strict=True))
        if reads_alone:
            return image, self.query_expert.finish(queries, F.scaled_dot_product_attention(query, key, value))
        query = torch.cat((image_attention.queries(normed), query), dim=2)
        attended = F.scaled_dot_product_attention(query, key, value)  # (B, H, N + Q, W / H)
        num_image = image.shape[1]
        return (
            self.image_expert.finish(image, attended[:, :, :num_image]),
            self.query_expert.finish(queries, attended[:, :, num_image:]),
        )


class VisionEncoder(nn.Module):
    """Turns a picture into the states of its query tokens."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embedding = nn.Conv2d(3, config.width, config.patch_size_px, stride=config.patch_size_px)
        self.class_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.image_positions = nn.Parameter(torch.zeros(config.num_image_positions, config.width))
        self.query_positions = nn.Parameter(torch.zeros(config.num_query_positions, config.width))
        self.layers = nn.ModuleList(VisionLayer(config) for _ in range(config.num_layers))
        self.image_norm = nn.LayerNorm(config.width, config.eps)
        self.query_norm = nn.LayerNorm(config.width, config.eps)

    def forward(self, pixels: Tensor, queries: Tensor, layer_outputs: list[Tensor] | None = None) -> Tensor:
        """Encode pictures with query tokens.

        Args:
            pixels: (B, 3, S, S) in the model's dtype, normalised.
            queries: (Q, W).
            layer_outputs: filled with the encoder's input and every layer's output, (B, N + Q, W) each.

        Returns:
            (B, Q, W): the query tokens after the final norm.
        """
        image, query = self._embed(pixels, queries)
        _keep(layer_outputs, image, query)
        last = len(self.layers) - 1
        for number, layer in enumerate(self.layers):
            image, query = layer(image, query, number == last and layer_outputs is None)
            _keep(layer_outputs, image, query)
        return self.query_norm(query)

    def in_slices(self, pixels: Tensor, queries: Tensor) -> Generator[None, None, Tensor]:
        """`forward`, a layer at a time."""
        image, query = self._embed(pixels, queries)
        last = len(self.layers) - 1
        for number, layer in enumerate(self.layers):
            image, query = layer(image, query, number == last)
            yield
        return self.query_norm(query)

    def encode_image(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, N, W): image tokens after the final norm, without query tokens."""
        image, query = self._embed(pixels, self.class_token.new_empty(0, self.config.width))
        for layer in self.layers:
            image, query = layer(image, query)
        return self.image_norm(image)

    def embed_patches(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, N, W): class token and patches in row-major order, before positions."""
        side = self.config.image_size_px
        if pixels.shape[1:] != (3, side, side):
            raise ValueError(f"pixels of shape {tuple(pixels.shape)}, expected (B, 3, {side}, {side})")
        patches = self.patch_embedding(pixels).flatten(2).transpose(1, 2)  # (B, N - 1, W)
        return torch.cat((self.class_token.expand(patches.shape[0], -1, -1), patches), dim=1)

    def _embed(self, pixels: Tensor, queries: Tensor) -> tuple[Tensor, Tensor]:
        """The layers' input: image tokens (B, N, W) and query tokens (B, Q, W); Q may be 0."""
        image = self.embed_patches(pixels) + self.image_positions[POSITION_OFFSET:]
        query = queries + self.query_positions[POSITION_OFFSET : POSITION_OFFSET + queries.shape[0]]
        return image, query.expand(image.shape[0], -1, -1)


def resize_positions(table: Tensor, num_positions: int) -> Tensor:
    """Fit an image position table to another number of patches (SPEC §9, last point).

    Args:
        table: (3 + G * G, W): two unused rows, the class token's, then a square grid in row-major order.
        num_positions: rows wanted, likewise 3 and a square.

    Returns:
        (num_positions, W) in the dtype of `table`; the first three rows kept, the rest bicubic in float32.
    """
    kept, patches = table[:NUM_KEPT_POSITIONS], table[NUM_KEPT_POSITIONS:]
    old_grid, grid = (math.isqrt(rows - NUM_KEPT_POSITIONS) for rows in (table.shape[0], num_positions))
    if old_grid**2 != patches.shape[0] or grid**2 != num_positions - NUM_KEPT_POSITIONS:
        raise ValueError(f"position tables of {table.shape[0]} and {num_positions} rows: 3 and a square are needed")
    square = patches.float().view(1, old_grid, old_grid, -1).permute(0, 3, 1, 2)  # (1, W, G, G)
    resized = F.interpolate(square, size=(grid, grid), mode="bicubic", align_corners=False)
    rows = resized.permute(0, 2, 3, 1).flatten(0, 2)  # (grid * grid, W)
    return torch.cat((kept, rows.to(table.dtype)))


def _keep(layer_outputs: list[Tensor] | None, image: Tensor, queries: Tensor) -> None:
    if layer_outputs is not None:
        layer_outputs.append(torch.cat((image, queries), dim=1))
