"""The vision tower against a plain rewriting of SPEC §5 in float64, and what it does not depend on."""

import math

import pytest
import torch
from torch import Tensor

from models.checkpoints.random_weights import draw_weights
from models.networks.vision.config import VisionConfig
from models.networks.vision.encoder import VisionEncoder, resize_positions

CONFIG = VisionConfig(
    image_size_px=32, patch_size_px=8, width=24, num_heads=3, dim_ff=40, num_layers=3, num_query_positions=12
)
NUM_IMAGE = 17


@pytest.fixture(scope="module")
def tower() -> VisionEncoder:
    encoder = VisionEncoder(CONFIG).double().requires_grad_(False)
    draw_weights(encoder, seed=3)
    return encoder


@pytest.fixture(scope="module")
def pixels() -> Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)).double()


@pytest.fixture(scope="module")
def queries() -> Tensor:
    return torch.randn(5, 24, generator=torch.Generator().manual_seed(2)).double()


def reference(tower: VisionEncoder, picture: Tensor, queries: Tensor) -> Tensor:
    """One picture, token by token: picture (3, S, S) -> all tokens (N + Q, W) after the final norms."""
    weights = dict(tower.state_dict())
    patch = CONFIG.patch_size_px
    tokens = [weights["class_token"][0, 0]]
    for row in range(CONFIG.grid):
        for column in range(CONFIG.grid):
            window = picture[:, row * patch : (row + 1) * patch, column * patch : (column + 1) * patch]
            tokens.append((weights["patch_embedding.weight"] * window).sum((1, 2, 3)) + weights["patch_embedding.bias"])
    tokens = [token + weights["image_positions"][2 + index] for index, token in enumerate(tokens)]
    tokens += [query + weights["query_positions"][2 + index] for index, query in enumerate(queries)]
    for layer in range(CONFIG.num_layers):
        tokens = reference_layer(weights, f"layers.{layer}.", tokens)
    norms = ["image_norm" if index < NUM_IMAGE else "query_norm" for index in range(len(tokens))]
    return torch.stack([norm(weights, name, token) for name, token in zip(norms, tokens, strict=True)])


def reference_layer(weights: dict[str, Tensor], prefix: str, tokens: list[Tensor]) -> list[Tensor]:
    experts = [f"{prefix}{'image' if index < NUM_IMAGE else 'query'}_expert." for index in range(len(tokens))]
    normed = [norm(weights, f"{expert}attention_norm", x) for expert, x in zip(experts, tokens, strict=True)]
    query, key, value = (
        torch.stack(
            [linear(weights, f"{expert}attention.{name}", x) for expert, x in zip(experts, normed, strict=True)]
        )
        for name in ("query", "key", "value")
    )
    size = CONFIG.width // CONFIG.num_heads
    heads = []
    for head in range(CONFIG.num_heads):
        part = slice(head * size, (head + 1) * size)
        scores = query[:, part] @ key[:, part].T / math.sqrt(size)
        heads.append(scores.softmax(-1) @ value[:, part])
    attended = torch.cat(heads, dim=-1)
    result = []
    for expert, x, mixed in zip(experts, tokens, attended, strict=True):
        merged = norm(weights, f"{expert}attention.output_norm", mixed)
        x = x + linear(weights, f"{expert}attention.output", merged)
        wide = linear(weights, f"{expert}feed_forward.up", norm(weights, f"{expert}feed_forward_norm", x))
        wide = wide * 0.5 * (1 + torch.erf(wide / math.sqrt(2)))
        result.append(
            x + linear(weights, f"{expert}feed_forward.down", norm(weights, f"{expert}feed_forward.norm", wide))
        )
    return result


def linear(weights: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return weights[f"{name}.weight"] @ x + weights[f"{name}.bias"]


def norm(weights: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    centred = x - x.mean()
    return (
        centred / torch.sqrt(centred.pow(2).mean() + CONFIG.eps) * weights[f"{name}.weight"] + weights[f"{name}.bias"]
    )


def test_queries_equal_the_reference(tower: VisionEncoder, pixels: Tensor, queries: Tensor) -> None:
    got = tower(pixels, queries)
    for picture in range(2):
        expected = reference(tower, pixels[picture], queries)
        assert (got[picture] - expected[NUM_IMAGE:]).abs().max() < 1e-10


def test_image_alone_equals_the_reference_without_queries(tower: VisionEncoder, pixels: Tensor) -> None:
    got = tower.encode_image(pixels)
    assert got.shape == (2, NUM_IMAGE, 24)
    assert (got[1] - reference(tower, pixels[1], pixels.new_empty(0, 24))).abs().max() < 1e-10


def test_layer_outputs_are_the_encoders_input_and_every_layer(
    tower: VisionEncoder, pixels: Tensor, queries: Tensor
) -> None:
    outputs: list[Tensor] = []
    result = tower(pixels, queries, outputs)
    assert [tuple(output.shape) for output in outputs] == [(2, NUM_IMAGE + 5, 24)] * (CONFIG.num_layers + 1)
    assert torch.equal(outputs[0][:, :NUM_IMAGE], tower.embed_patches(pixels) + tower.image_positions[2:])
    assert torch.equal(tower.query_norm(outputs[-1][:, NUM_IMAGE:]), result)


def test_pictures_of_a_batch_do_not_meet(tower: VisionEncoder, pixels: Tensor, queries: Tensor) -> None:
    assert torch.allclose(tower(pixels, queries)[:1], tower(pixels[:1], queries), atol=1e-12, rtol=0)


def test_the_first_two_position_rows_are_unused(tower: VisionEncoder, pixels: Tensor, queries: Tensor) -> None:
    before = tower(pixels, queries)
    for table in (tower.image_positions, tower.query_positions):
        kept = table[:2].clone()
        table[:2] = 1e6
        assert torch.equal(tower(pixels, queries), before)
        table[:2] = kept


def test_another_picture_side_is_refused(tower: VisionEncoder, queries: Tensor) -> None:
    with pytest.raises(ValueError, match=r"shape \(1, 3, 40, 40\), expected \(B, 3, 32, 32\)"):
        tower(torch.zeros(1, 3, 40, 40).double(), queries)


@pytest.mark.slow
def test_the_full_size_tower_takes_no_memory_on_the_meta_device() -> None:
    with torch.device("meta"):
        encoder = VisionEncoder(VisionConfig())
    experts = sum(p.numel() for name, p in encoder.named_parameters() if "_expert" in name or "_norm" in name)
    assert experts == pytest.approx(2 * 302.6e6, rel=1e-3)  # SPEC §12
    assert sum(p.numel() for p in encoder.patch_embedding.parameters()) + encoder.class_token.numel() == 788480
    assert encoder.image_positions.numel() + encoder.query_positions.numel() == 1252352


class TestResizePositions:
    def test_the_same_size_changes_nothing(self) -> None:
        table = torch.randn(3 + 16, 8, generator=torch.Generator().manual_seed(0))
        assert torch.allclose(resize_positions(table, 3 + 16), table, atol=1e-6)

    def test_rows_before_the_patches_are_kept_and_the_dtype_too(self) -> None:
        table = torch.randn(3 + 16, 8, generator=torch.Generator().manual_seed(0)).half()
        resized = resize_positions(table, 3 + 36)
        assert (resized.shape, resized.dtype) == ((39, 8), torch.float16)
        assert torch.equal(resized[:3], table[:3])

    def test_rows_and_columns_are_not_exchanged(self) -> None:
        grid = torch.arange(4.0).view(4, 1, 1).expand(4, 4, 2)  # the value of a patch is its row
        table = torch.cat((torch.zeros(3, 2), grid.reshape(16, 2)))
        resized = resize_positions(table, 3 + 64)[3:].view(8, 8, 2)
        assert torch.allclose(resized, resized[:, :1].expand(8, 8, 2), atol=1e-5)
        assert (resized[1:, 0, 0] > resized[:-1, 0, 0]).all()

    @pytest.mark.parametrize(("rows", "wanted"), [(18, 19), (19, 20)])
    def test_what_is_no_square_is_refused(self, rows: int, wanted: int) -> None:
        with pytest.raises(ValueError, match=f"{rows} and {wanted} rows"):
            resize_positions(torch.zeros(rows, 4), wanted)
