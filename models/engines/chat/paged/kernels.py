"""Attention of one token of every row over the pool, all requests in one launch: the way of a GPU (Triton).

A program takes one head of one request, and of a long one a part of its keys: each key is read once for all of the
request's beams. Softmax in float32; parts are put together by a second launch. H heads, R rows (padded), B requests
(at most R), N slots of a request, L prompt tokens, Dh head width, S answer slots, P parts.

Import it only where Triton is; with TRITON_INTERPRET=1 beforehand it runs on a CPU, slowly, for tests.
"""

from contextlib import AbstractContextManager, nullcontext

import torch
import triton
import triton.language as tl
from torch import Tensor

from models.engines.chat.kv_pool import BLOCK_SLOTS

MAX_PARTS = tl.constexpr(16)  # of one request's keys: together a launch should fill the GPU
FEWEST_ROWS = 16  # of a tile that tensor cores take
COLUMNS = tl.constexpr(8)  # of the table of requests
FIRST_ROW, NUM_ROWS, NUM_SLOTS, PROMPT_LENGTH = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2), tl.constexpr(3)
FIRST_BLOCK, FIRST_BIAS, FIRST_DISTANCE, WIDTH = tl.constexpr(4), tl.constexpr(5), tl.constexpr(6), tl.constexpr(7)


@triton.jit(do_not_specialize=["num_rows_padded", "num_distances", "num_parts"])
def _attend(
    queries,
    keys,
    values,
    mixed,
    part_maxima,
    part_sums,
    requests,
    blocks,
    prompt_bias,
    distances,
    distance_bias,
    scale,
    row_stride,
    head_stride,
    num_rows_padded,
    num_distances,
    num_parts,
    HEADS: tl.constexpr,
    DIM: tl.constexpr,
    BLOCK_SLOTS: tl.constexpr,
    TILE_ROWS: tl.constexpr,
    TILE_KEYS: tl.constexpr,
    TILE_DIM: tl.constexpr,
    IS_WHOLE: tl.constexpr,
):
    """One head, one part, one request; `mixed` is (R, H, Dh) where the part is all, else (P, R, H, Dh) float32."""
    head, part = tl.program_id(0), tl.program_id(1)
    request = requests + tl.program_id(2) * COLUMNS
    num_rows = tl.load(request + NUM_ROWS)
    if num_rows == 0:
        return
    first_row, num_slots = tl.load(request + FIRST_ROW), tl.load(request + NUM_SLOTS)
    prompt_length, first_block = tl.load(request + PROMPT_LENGTH), tl.load(request + FIRST_BLOCK)
    prompt_bias += tl.load(request + FIRST_BIAS).to(tl.int64) + head * prompt_length
    distances += tl.load(request + FIRST_DISTANCE)
    width = tl.load(request + WIDTH)
    distance_bias += head * num_distances

    rows, dims = tl.arange(0, TILE_ROWS), tl.arange(0, TILE_DIM)
    is_row, is_dim = rows < num_rows, dims < DIM
    own = (first_row + rows)[:, None] * row_stride + head * head_stride + dims[None, :]
    asked = tl.load(queries + own, mask=is_row[:, None] & is_dim[None, :], other=0.0)

    part_slots = tl.cdiv(tl.cdiv(num_slots, num_parts), TILE_KEYS) * TILE_KEYS
    start = part * part_slots
    end = tl.minimum(start + part_slots, num_slots)
    maxima = tl.full([TILE_ROWS], float("-inf"), tl.float32)
    sums = tl.zeros([TILE_ROWS], tl.float32)
    total = tl.zeros([TILE_ROWS, TILE_DIM], tl.float32)
    for first in range(start, end, TILE_KEYS):
        numbers = first + tl.arange(0, TILE_KEYS)
        is_key, is_prompt = numbers < end, numbers < prompt_length
        block = tl.load(blocks + first_block + numbers // BLOCK_SLOTS, mask=is_key, other=0)
        places = (block * BLOCK_SLOTS + numbers % BLOCK_SLOTS).to(tl.int64) * (HEADS * DIM) + head * DIM
        is_held = is_key[:, None] & is_dim[None, :]
        own_keys = tl.load(keys + places[:, None] + dims[None, :], mask=is_held, other=0.0)
        scores = tl.dot(asked, tl.trans(own_keys), input_precision="ieee") * scale

        of_prompt = tl.load(prompt_bias + numbers, mask=is_key & is_prompt, other=0.0).to(tl.float32)
        is_answer = is_row[:, None] & (is_key & (numbers >= prompt_length))[None, :]
        place = rows[:, None] * width + (numbers - prompt_length)[None, :]
        distance = tl.load(distances + place, mask=is_answer, other=0)
        of_answer = tl.load(distance_bias + distance, mask=is_answer, other=0.0).to(tl.float32)
        scores += tl.where(is_prompt[None, :], of_prompt[None, :], of_answer)
        scores = tl.where(is_key[None, :], scores, float("-inf"))

        new_maxima = tl.maximum(maxima, tl.max(scores, 1))
        finite = tl.where(new_maxima == float("-inf"), 0.0, new_maxima)  # a row that sees none of these keys
        weights = tl.exp(scores - finite[:, None])
        kept = tl.exp(maxima - finite)
        sums = sums * kept + tl.sum(weights, 1)
        own_values = tl.load(values + places[:, None] + dims[None, :], mask=is_held, other=0.0)
        mixture = tl.dot(weights.to(own_values.dtype), own_values, input_precision="ieee")
        total = total * kept[:, None] + mixture
        maxima = new_maxima

    row = first_row + rows
    if IS_WHOLE:
        place = (row[:, None] * HEADS + head) * DIM + dims[None, :]
        mean = total / sums[:, None]
        tl.store(mixed + place, mean.to(mixed.dtype.element_ty), mask=is_row[:, None] & is_dim[None, :])
    else:
        of_part = (part * num_rows_padded + row) * HEADS + head
        place = of_part.to(tl.int64)[:, None] * DIM + dims[None, :]
        tl.store(mixed + place, total, mask=is_row[:, None] & is_dim[None, :])
        tl.store(part_maxima + of_part, maxima, mask=is_row)
        tl.store(part_sums + of_part, sums, mask=is_row)


@triton.jit(do_not_specialize=["num_rows_padded", "num_parts"])
def _join_parts(
    parts,
    part_maxima,
    part_sums,
    mixed,
    num_rows_padded,
    num_parts,
    HEADS: tl.constexpr,
    DIM: tl.constexpr,
    TILE_DIM: tl.constexpr,
):
    """One head of one row; rows of padding give 0."""
    row, head = tl.program_id(0), tl.program_id(1)
    numbers, dims = tl.arange(0, MAX_PARTS), tl.arange(0, TILE_DIM)
    is_part, is_dim = numbers < num_parts, dims < DIM
    of_part = (numbers * num_rows_padded + row) * HEADS + head
    maxima = tl.load(part_maxima + of_part, mask=is_part, other=float("-inf"))
    highest = tl.max(maxima, 0)
    weights = tl.exp(maxima - tl.where(highest == float("-inf"), 0.0, highest))
    total = tl.sum(tl.load(part_sums + of_part, mask=is_part, other=0.0) * weights, 0)
    places = of_part.to(tl.int64)[:, None] * DIM + dims[None, :]
    sums = tl.load(parts + places, mask=is_part[:, None] & is_dim[None, :], other=0.0)
    mean = tl.sum(sums * weights[:, None], 0) / tl.where(total > 0, total, 1.0)
    tl.store(mixed + (row * HEADS + head) * DIM + dims, mean.to(mixed.dtype.element_ty), mask=is_dim)


@triton.jit
def _write(
    keys,
    values,
    pool_keys,
    pool_values,
    places,
    row_stride,
    head_stride,
    HEADS: tl.constexpr,
    DIM: tl.constexpr,
    TILE_HEADS: tl.constexpr,
    TILE_DIM: tl.constexpr,
):
    """One row's keys and values into its slot; place -1: a row of padding."""
    row = tl.program_id(0)
    place = tl.load(places + row).to(tl.int64)
    if place < 0:
        return
    heads, dims = tl.arange(0, TILE_HEADS), tl.arange(0, TILE_DIM)
    mask = (heads < HEADS)[:, None] & (dims < DIM)[None, :]
    own = row * row_stride + heads[:, None] * head_stride + dims[None, :]
    target = place * (HEADS * DIM) + heads[:, None] * DIM + dims[None, :]
    tl.store(pool_keys + target, tl.load(keys + own, mask=mask), mask=mask)
    tl.store(pool_values + target, tl.load(values + own, mask=mask), mask=mask)


def write(keys: Tensor, values: Tensor, pool_keys: Tensor, pool_values: Tensor, places: Tensor) -> None:
    """Keys and values (H, R, Dh) of a step's rows into slots `places` (R,) of a layer's pool (slots, H, Dh)."""
    heads, rows, dim = keys.shape
    assert keys.stride() == values.stride() and keys.stride(2) == 1
    with _on(keys.device):
        _write[(rows,)](
            keys,
            values,
            pool_keys,
            pool_values,
            places,
            keys.stride(1),
            keys.stride(0),
            HEADS=heads,
            DIM=dim,
            TILE_HEADS=triton.next_power_of_2(heads),
            TILE_DIM=triton.next_power_of_2(dim),
        )


def attend(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    requests: Tensor,
    blocks: Tensor,
    prompt_bias: Tensor,
    distances: Tensor,
    distance_bias: Tensor,
    mixed: Tensor,
    parts: tuple[Tensor, Tensor, Tensor] | None,
    tile_rows: int,
) -> None:
    """Attention of each row over its request's slots, into `mixed` (R, H, Dh), where no row of padding is touched.

    Args:
        queries: (H, R, Dh), rows of one request next to one another.
        keys: the pool's of one layer, (slots, H, Dh), contiguous; values likewise.
        requests: int32 (B, 8), columns as named above; no rows: a request of padding.
        blocks: int32, the pool's blocks of every request, one request's after the other's.
        prompt_bias: every request's (H, L), one after the other.
        distances: int32, of every row (S,): columns of `distance_bias`.
        distance_bias: (H, columns), -inf in the column of those that are none of a row's past.
        parts: float32 (P, R, H, Dh), (P, R, H) and (P, R, H), where the keys are read in P parts; None: in one.
        tile_rows: a power of 2, of at least 16 and the most rows of one request.
    """
    heads, rows, dim = queries.shape
    assert queries.stride(2) == 1
    num_parts = 1 if parts is None else len(parts[0])
    assert num_parts <= MAX_PARTS.value, num_parts
    sums, maxima, totals = (mixed, mixed, mixed) if parts is None else parts
    tile_dim = max(triton.next_power_of_2(dim), 16)
    with _on(queries.device):
        _attend[(heads, num_parts, len(requests))](
            queries,
            keys,
            values,
            sums,
            maxima,
            totals,
            requests,
            blocks,
            prompt_bias,
            distances,
            distance_bias,
            dim**-0.5,
            queries.stride(1),
            queries.stride(0),
            rows,
            distance_bias.shape[1],
            num_parts,
            HEADS=heads,
            DIM=dim,
            BLOCK_SLOTS=BLOCK_SLOTS,
            TILE_ROWS=tile_rows,
            TILE_KEYS=64 if keys.dtype.itemsize == 2 else 32,  # two tiles in flight fit the shared memory of all GPUs
            TILE_DIM=tile_dim,
            IS_WHOLE=parts is None,
            num_warps=4,
            num_stages=2,
        )
        if parts is not None:
            _join_parts[(rows, heads)](
                sums, maxima, totals, mixed, rows, num_parts, HEADS=heads, DIM=dim, TILE_DIM=tile_dim
            )


def _on(device: torch.device) -> AbstractContextManager[object]:
    """Triton launches on the current device, wherever its tensors are."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()
