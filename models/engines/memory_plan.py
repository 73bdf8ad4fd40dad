"""How a model fits a budget of device memory: precision, quantization, streamed layers, by arithmetic that is told.

No tensors and no device here: sizes in, a plan out. Sizes are of the published models in SPEC §12.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from models.jobs import Model, Offload, Quantization

GIB = 2**30
DTYPE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
# Bytes of a value of the layers: int8 has a scale for each row, int4 one of half precision for each 128 (SPEC §12)
QUANTIZED_BYTES = {"int8": 1.001, "int4": 0.516}
LEAST_TOKENS = 1024  # a picture, a question and an answer of usual lengths in three beams
LONGEST_TOKENS = 3000 + 514 + 2  # of one request at the API's defaults
LOGIT_ROWS = 24  # that decode at once, for the activations
CONTEXT_BYTES = 400 * 2**20  # CUDA's own, and its libraries'
FRAGMENTED_SHARE = 0.02  # of the budget, that no allocation uses
NUM_BUFFERS = 2  # layers on the device while they stream
CANDIDATES = 4  # pictures of a paint request with a reranker

Way = tuple[str, Quantization, Offload]  # dtype first


class BudgetTooSmall(ValueError):
    """No allowed way fits. The message is one line, with the least that works."""


@dataclass(frozen=True)
class ModelSizes:
    """Of one checkpoint. `…_values` are numbers of weights.

    Args:
        rest_values: everything beside the language model: vision tower and projector, or adapter and UNet.
        fixed_bytes: of networks whose precision nobody chooses: VAE and rerankers, in float32.
        row_values: of activations in one row of the UNet; a picture takes two rows.
        decode_bytes: of activations while the VAE decodes a picture.
    """

    kind: Model
    num_layers: int
    layer_values: int
    embedding_values: int
    rest_values: int
    num_heads: int
    dim_head: int
    dim_model: int
    dim_ff: int
    vocab_size: int
    fixed_bytes: int = 0
    row_values: int = 0
    decode_bytes: int = 0

    def token_bytes(self, dtype: str) -> int:
        """Keys and values of a token in all layers."""
        return 2 * self.num_layers * self.num_heads * self.dim_head * DTYPE_BYTES[dtype]

    def prompt_bytes(self, num_tokens: int, dtype: str) -> int:
        """Activations while a prompt of that length is read beside answers: biases, states of a layer, logits."""
        width = DTYPE_BYTES[dtype]
        bias = num_tokens**2 * (2 * self.num_heads * width + 16)
        states = num_tokens * (3 * self.dim_ff + 8 * self.dim_model) * width
        return bias + states + LOGIT_ROWS * self.vocab_size * 16

    def painting_bytes(self, num_pictures: int, dtype: str) -> int:
        """Activations while so many pictures are painted at once; they are decoded one by one where memory is short."""
        return max(2 * num_pictures * self.row_values * DTYPE_BYTES[dtype], self.decode_bytes)


@dataclass(frozen=True)
class Choices:
    """What a plan may choose from, best first. A single entry is somebody's setting, which a plan keeps to.

    Args:
        layer_bytes: for layers on the device where they stream; 0: as the plan has room.
        kv_bytes: for keys and values; 0: what is left.
        max_jobs: whose keys and values, or pictures, are worth room.
    """

    dtypes: Sequence[str]
    quantizations: Sequence[Quantization] = ("off",)
    offloads: Sequence[Offload] = ("off", "streamed")
    layer_bytes: int = 0
    kv_bytes: int = 0
    max_jobs: int = 1
    is_cuda: bool = True


@dataclass(frozen=True)
class MemoryPlan:
    """What is chosen, and what it takes, term by term in bytes."""

    kind: Model
    budget_bytes: int
    dtype: str
    quantization: Quantization
    offload: Offload
    offload_bytes: int  # for layers on the device; 0 where all are there
    kv_bytes: int
    terms: dict[str, int]
    rejected: dict[str, int] = field(default_factory=dict)  # what was tried before, with the least that it takes

    @property
    def total_bytes(self) -> int:
        return sum(self.terms.values())

    @property
    def way(self) -> str:
        return _way(self.dtype, self.quantization, self.offload)

    def __str__(self) -> str:
        """One paragraph, for the log."""
        terms = " + ".join(f"{name} {_told(size)}" for name, size in self.terms.items())
        text = f"{_told(self.budget_bytes)} for {self.kind}: {self.way}: {terms} = {_told(self.total_bytes)}"
        if self.rejected:
            text += "; " + ", ".join(f"{way} takes at least {_told(size)}" for way, size in self.rejected.items())
        return text


def make_plan(sizes: ModelSizes, budget_bytes: int, choices: Choices) -> MemoryPlan:
    """The first way that fits. Raises BudgetTooSmall."""
    rejected: dict[str, int] = {}
    for dtype, quantization, offload in _ways(choices):
        terms = _least_terms(sizes, dtype, quantization, offload, choices)
        terms["margin"] = int(budget_bytes * FRAGMENTED_SHARE) + (CONTEXT_BYTES if choices.is_cuda else 0)
        if sum(terms.values()) > budget_bytes:
            rejected[_way(dtype, quantization, offload)] = _least_budget(sum(terms.values()) - terms["margin"], choices)
            continue
        return _filled(sizes, budget_bytes, (dtype, quantization, offload), choices, terms, rejected)
    way, least_bytes = min(rejected.items(), key=lambda item: item[1])
    raise BudgetTooSmall(
        f"VISCPM_VRAM_BUDGET: {_told(budget_bytes)} are too little for {sizes.kind}; the least that works is "
        f"{least_bytes} bytes, {_told(least_bytes)} ({way})"
    )


def _ways(choices: Choices) -> Iterator[Way]:
    """Quantized layers are whole on the device: what streams is as the checkpoint has it, unless a setting wants it."""
    for dtype in choices.dtypes:
        for offload in choices.offloads:
            is_free = len(choices.quantizations) > 1
            for quantization in choices.quantizations:
                if offload == "off" or not is_free or quantization == "off":
                    yield dtype, quantization, offload


def _least_terms(
    sizes: ModelSizes, dtype: str, quantization: Quantization, offload: Offload, choices: Choices
) -> dict[str, int]:
    width = DTYPE_BYTES[dtype]
    value_bytes = QUANTIZED_BYTES.get(quantization, width)
    layer_bytes = int(sizes.layer_values * value_bytes)
    terms: dict[str, int] = {}
    if offload == "off":
        terms[f"{sizes.num_layers} layers"] = sizes.num_layers * layer_bytes
    else:
        terms["layers on the device"] = choices.layer_bytes or min(NUM_BUFFERS, sizes.num_layers) * layer_bytes
    terms["embedding"] = sizes.embedding_values * width
    if sizes.kind == "chat":
        terms["vision tower"] = sizes.rest_values * width
        terms["activations"] = sizes.prompt_bytes(LEAST_TOKENS, dtype)
        terms["keys and values"] = choices.kv_bytes or LEAST_TOKENS * sizes.token_bytes(dtype)
        return terms
    terms["UNet and adapter"] = sizes.rest_values * width
    terms["VAE and rerankers"] = sizes.fixed_bytes
    painting = sizes.painting_bytes(1, dtype)
    # The buffers of streamed layers are given back once texts are read, so that pictures have their place
    buffers = min(NUM_BUFFERS, sizes.num_layers) * layer_bytes if offload == "streamed" else 0
    if buffers:
        terms["layers on the device"] -= buffers
    terms["activations"] = max(painting, buffers)
    return terms


def _filled(
    sizes: ModelSizes, budget_bytes: int, way: Way, choices: Choices, least: dict[str, int], rejected: dict[str, int]
) -> MemoryPlan:
    """What is left goes to one long talk or to all pictures, then to layers that stay, then to other talks."""
    dtype, quantization, offload = way
    terms = dict(least)
    token_bytes = sizes.token_bytes(dtype)
    layer_bytes = sizes.layer_values * DTYPE_BYTES[dtype]

    def grow(name: str, most_bytes: int, step_bytes: int = 1) -> None:
        left_bytes = min(budget_bytes - sum(terms.values()), most_bytes - terms[name])
        terms[name] += max(left_bytes, 0) // step_bytes * step_bytes

    if sizes.kind == "paint":
        grow("activations", sizes.painting_bytes(choices.max_jobs * CANDIDATES, dtype))
    elif not choices.kv_bytes:
        grow("keys and values", LONGEST_TOKENS * token_bytes)
    offload_bytes = choices.layer_bytes
    if offload != "off" and not offload_bytes:
        before = terms["layers on the device"]
        grow("layers on the device", sizes.num_layers * layer_bytes, layer_bytes)
        offload_bytes = min(NUM_BUFFERS, sizes.num_layers) * layer_bytes + terms["layers on the device"] - before
    if sizes.kind == "chat" and not choices.kv_bytes:
        grow("keys and values", LONGEST_TOKENS * token_bytes * choices.max_jobs)
    kv_bytes = terms.get("keys and values", 0)
    if sizes.kind == "chat":
        counted = f"keys and values of {kv_bytes // token_bytes} tokens"
        terms = {counted if name == "keys and values" else name: size for name, size in terms.items()}
    return MemoryPlan(
        kind=sizes.kind,
        budget_bytes=budget_bytes,
        dtype=dtype,
        quantization=quantization,
        offload=offload,
        offload_bytes=offload_bytes if offload != "off" else 0,
        kv_bytes=kv_bytes,
        terms={name: size for name, size in terms.items() if size},
        rejected=rejected,
    )


def _least_budget(needed_bytes: int, choices: Choices) -> int:
    """The smallest budget that, its own margin taken off, leaves so much."""
    context = CONTEXT_BYTES if choices.is_cuda else 0
    return int((needed_bytes + context) / (1 - FRAGMENTED_SHARE)) + 2


def _way(dtype: str, quantization: Quantization, offload: Offload) -> str:
    """Such as `float16, int8`."""
    parts = [dtype, *([quantization] if quantization != "off" else []), *([offload] if offload != "off" else [])]
    return ", ".join(parts)


def _told(size_bytes: int) -> str:
    return f"{size_bytes / GIB:.2f} GiB" if size_bytes >= GIB / 10 else f"{size_bytes / 2**20:.1f} MiB"
