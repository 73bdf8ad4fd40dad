"""Plans for the published sizes: what is chosen for a budget, and that the terms add up."""

import pytest

from models.engines.memory_plan import (
    GIB,
    BudgetTooSmall,
    Choices,
    MemoryPlan,
    ModelSizes,
    make_plan,
)
from models.jobs import Model, Offload, Quantization

# SPEC §12: 48 layers of 4 x 4096² + 3 x 4096 x 10240 weights and two norms
LLM = {
    "num_layers": 48,
    "layer_values": 192_946_176,
    "embedding_values": 354_664_448,
    "num_heads": 32,
    "dim_head": 128,
    "dim_model": 4096,
    "dim_ff": 10240,
    "vocab_size": 86583,
}
SIZES = {
    "chat": ModelSizes(kind="chat", rest_values=628_200_448, **LLM),
    "paint": ModelSizes(
        kind="paint",
        rest_values=870_107_076,
        fixed_bytes=4 * 83_653_863,
        row_values=26 * 320 * 64**2,
        decode_bytes=6 * 128 * 512**2 * 4,
        **LLM,
    ),
}
ANY = Choices(dtypes=["float16"], quantizations=["off", "int8", "int4"], max_jobs=64)
TEXT_KEPT = Choices(dtypes=["float16"], max_jobs=8)  # paint: its text is never quantized by a plan


def plan(kind: Model, gib: float, choices: Choices | None = None) -> MemoryPlan:
    return make_plan(SIZES[kind], int(gib * GIB), choices or (ANY if kind == "chat" else TEXT_KEPT))


@pytest.mark.parametrize(
    ("kind", "gib", "quantization", "offload"),
    [
        ("chat", 4.5, "off", "streamed"),
        ("chat", 5, "off", "streamed"),
        ("chat", 6, "off", "streamed"),
        ("chat", 8, "int4", "off"),
        ("chat", 12, "int4", "off"),
        ("chat", 13, "int8", "off"),
        ("chat", 17, "int8", "off"),
        ("chat", 22, "off", "off"),
        ("chat", 24, "off", "off"),
        ("paint", 5, "off", "streamed"),
        ("paint", 17, "off", "streamed"),
        ("paint", 22, "off", "off"),
        ("paint", 24, "off", "off"),
    ],
)
def test_the_published_models_fit_as_well_as_they_can(
    kind: Model, gib: float, quantization: Quantization, offload: Offload
) -> None:
    made = plan(kind, gib)
    assert (made.dtype, made.quantization, made.offload) == ("float16", quantization, offload)
    assert 0.9 * made.budget_bytes < made.total_bytes <= made.budget_bytes or kind == "paint"
    assert made.total_bytes <= made.budget_bytes
    assert all(size > 0 for size in made.terms.values())


def test_int4_fits_in_what_its_weights_and_one_talk_take() -> None:
    """6.3 GiB of weights with the vision tower in half precision; 5.5 GB of them are the language model's."""
    choices = Choices(dtypes=["float16"], quantizations=["int4"], offloads=["off"])
    with pytest.raises(BudgetTooSmall, match=r"the least that works is \d+ bytes, 7.87 GiB \(float16, int4\)"):
        plan("chat", 6, choices)
    made = plan("chat", 7.9, choices)
    assert made.terms["48 layers"] + made.terms["embedding"] == pytest.approx(5.48e9, rel=0.01)  # SPEC §12


@pytest.mark.parametrize("kind", ["chat", "paint"])
def test_the_least_that_works_works_and_a_byte_less_does_not(kind: Model) -> None:
    choices = ANY if kind == "chat" else TEXT_KEPT
    with pytest.raises(BudgetTooSmall) as refused:
        make_plan(SIZES[kind], GIB, choices)
    message = str(refused.value)
    assert message.startswith(f"VISCPM_VRAM_BUDGET: 1.00 GiB are too little for {kind}; ") and "\n" not in message
    least_bytes = int(message.split("the least that works is ")[1].split()[0])
    assert make_plan(SIZES[kind], least_bytes, choices).offload == "streamed"
    with pytest.raises(BudgetTooSmall):
        make_plan(SIZES[kind], least_bytes - 100, choices)


def test_a_setting_is_kept_even_where_another_one_would_fit_better() -> None:
    int8 = Choices(dtypes=["float16"], quantizations=["int8"], offloads=["off"])
    assert plan("chat", 80, int8).quantization == "int8"
    assert plan("chat", 80, Choices(dtypes=["float16"], offloads=["streamed"])).offload == "streamed"
    assert plan("chat", 80, Choices(dtypes=["bfloat16"])).dtype == "bfloat16"
    kept = plan("chat", 10, Choices(dtypes=["float16"], offloads=["bminf"], layer_bytes=GIB, kv_bytes=2 * GIB))
    assert (kept.offload, kept.offload_bytes, kept.kv_bytes) == ("bminf", GIB, 2 * GIB)
    with pytest.raises(BudgetTooSmall, match="float16, int8"):
        plan("chat", 12, int8)


def test_half_precision_is_taken_on_a_processor_where_single_does_not_fit() -> None:
    choices = Choices(dtypes=["float32", "bfloat16"], quantizations=["off"], is_cuda=False)
    assert plan("chat", 44, choices).dtype == "float32"
    assert (plan("chat", 24, choices).dtype, plan("chat", 24, choices).offload) == ("float32", "streamed")


def test_what_is_left_keeps_layers_on_the_device_and_grows_the_pool() -> None:
    least, more = plan("chat", 4.1, STREAMED), plan("chat", 10, STREAMED)
    layer_bytes = 2 * LLM["layer_values"]
    assert least.offload_bytes == 2 * layer_bytes
    assert more.offload_bytes % layer_bytes == 0 and more.offload_bytes > 8 * layer_bytes
    assert more.kv_bytes >= 3516 * 786_432, "one longest talk comes first"
    assert plan("chat", 80).kv_bytes <= 64 * 3516 * 786_432


STREAMED = Choices(dtypes=["float16"], offloads=["streamed"])


def test_pictures_have_the_place_of_the_buffers() -> None:
    made = plan("paint", 4)
    assert "layers on the device" not in made.terms
    assert made.terms["activations"] >= made.offload_bytes == 4 * LLM["layer_values"]
    many = plan("paint", 17)
    assert many.terms["activations"] == 2 * 8 * 4 * 26 * 320 * 64**2 * 2, "eight jobs of four pictures, two rows each"
    assert many.offload_bytes == many.terms["layers on the device"] + 4 * LLM["layer_values"]


def test_bytes_of_a_token_are_those_of_the_arithmetic() -> None:
    assert SIZES["chat"].token_bytes("float16") == 786_432  # SPEC §12
    assert SIZES["chat"].token_bytes("float32") == 2 * 786_432


def test_the_log_tells_every_term_and_what_did_not_fit() -> None:
    told = str(plan("chat", 5))
    assert "\n" not in told
    assert told.startswith(
        "5.00 GiB for chat: float16, streamed: layers on the device 0.72 GiB + embedding 0.66 GiB + "
    )
    assert "keys and values of 2276 tokens 1.67 GiB" in told and " + margin 0.49 GiB = 5.00 GiB" in told
    assert told.endswith(
        "; float16 takes at least 20.93 GiB, float16, int8 takes at least 12.14 GiB, float16, int4 takes at least "
        "7.87 GiB"
    )
