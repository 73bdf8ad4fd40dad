"""A budget for a real checkpoint: its sizes, the engine that comes of it, and what somebody set."""

import logging
from pathlib import Path
from typing import Any

import pytest

from models.checkpoints.bundled import bundled_checkpoint
from models.checkpoints.companion_files import load_vae
from models.checkpoints.config_from_shapes import PUBLISHED_CHAT
from models.checkpoints.loading import load_chat, load_paint
from models.checkpoints.tiny import write_tiny_checkpoints
from models.engines.chat import engine as chat
from models.engines.memory_plan import BudgetTooSmall, make_plan
from models.engines.offload.budget import applied, choices, model_sizes, within_budget
from models.engines.paint import engine as paint
from models.jobs import EngineConfig
from tests.models.engines.chat.jobs import MIXED
from tests.models.engines.offload.test_placement import answers, create_chat, picture

ALL_OPEN = ["dtype", "quantization", "offload"]
_MIB = 2**20


def chat_config(folder: Path, **fields: Any) -> EngineConfig:
    return EngineConfig(kind="chat", checkpoint=str(folder), **({"planned": ALL_OPEN} | fields))


@pytest.fixture(scope="module")
def paint_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints")
    write_tiny_checkpoints(folder, seed=0)
    return folder / "paint"


@pytest.mark.slow
def test_sizes_of_chat_are_those_of_its_parameters(chat_folder: Path) -> None:
    sizes, model = model_sizes(chat_config(chat_folder)), load_chat(chat_folder).model
    assert sizes.layer_values == sum(parameter.numel() for parameter in model.llm.layers[0].parameters())
    total = sizes.num_layers * sizes.layer_values + sizes.embedding_values + sizes.rest_values
    assert total == sum(parameter.numel() for parameter in model.parameters())
    assert (sizes.fixed_bytes, sizes.row_values, sizes.decode_bytes) == (0, 0, 0)


@pytest.mark.slow
def test_sizes_of_paint_hold_the_vae(paint_folder: Path) -> None:
    config = EngineConfig(kind="paint", checkpoint=str(paint_folder))
    sizes, loaded = model_sizes(config), load_paint(paint_folder)
    rest = [loaded.model.unet, loaded.model.prompt_adapter]
    assert sizes.rest_values == sum(parameter.numel() for module in rest for parameter in module.parameters())
    vae_bytes = sum(parameter.nbytes for parameter in load_vae(paint_folder / "vae", loaded.vae.device).parameters())
    assert vae_bytes <= sizes.fixed_bytes < 1.5 * vae_bytes + 50_000  # a file has a header
    assert sizes.row_values == 26 * 8 * 32**2 and sizes.decode_bytes == 6 * 4 * 256**2 * 4


def test_without_a_budget_nothing_is_planned(chat_folder: Path) -> None:
    config = chat_config(chat_folder)
    assert within_budget(config) is config


@pytest.mark.slow
def test_a_small_budget_streams_and_gives_the_same_answers(chat_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    sizes = model_sizes(chat_config(chat_folder))
    least_bytes = sizes.prompt_bytes(1024, "float32") + 1024 * sizes.token_bytes("float32")
    whole = create_chat(chat_folder)
    expected = answers(whole, *MIXED)
    budget_bytes = int((least_bytes + 4 * (sizes.rest_values + sizes.embedding_values + 3 * sizes.layer_values)) / 0.98)
    with caplog.at_level(logging.INFO):
        config = chat_config(chat_folder, vram_budget_bytes=budget_bytes, planned=["dtype", "offload"], max_jobs=16)
        engine = chat.create_engine(config, lambda name, value: None)
    assert "VISCPM_VRAM_BUDGET: " in caplog.text and "float32, streamed: layers on the device" in caplog.text
    assert answers(engine, *MIXED) == expected
    pool_bytes = engine.load.kv_blocks * 16 * sizes.token_bytes("float32")
    assert least_bytes - sizes.prompt_bytes(1024, "float32") <= pool_bytes < budget_bytes - least_bytes // 2


def test_a_large_budget_changes_nothing_but_the_pool(chat_folder: Path) -> None:
    config = chat_config(chat_folder, vram_budget_bytes=512 * _MIB)
    planned = within_budget(config)
    assert (planned.dtype, planned.quantization, planned.offload) == ("float32", "off", "off")
    assert 0 < planned.kv_bytes < 512 * _MIB


def test_too_small_a_budget_is_refused_at_start(chat_folder: Path) -> None:
    with pytest.raises(BudgetTooSmall, match="^VISCPM_VRAM_BUDGET: 1.0 MiB are too little for chat; the least"):
        chat.create_engine(chat_config(chat_folder, vram_budget_bytes=_MIB), lambda name, value: None)


@pytest.mark.slow
def test_paint_streams_below_what_both_networks_need(caplog: pytest.LogCaptureFixture, paint_folder: Path) -> None:
    config = EngineConfig(kind="paint", checkpoint=str(paint_folder), planned=ALL_OPEN)
    sizes = model_sizes(config)
    fields = {"dtypes": ["float32"], "is_cuda": False}
    assert choices(config).quantizations == ["off"], "of paint's text no plan takes precision away"
    with pytest.raises(BudgetTooSmall) as refused:
        make_plan(sizes, 1, choices(config).__class__(offloads=["streamed"], **fields))
    least_bytes = int(str(refused.value).split("the least that works is ")[1].split()[0])
    whole = paint.create_engine(config, lambda name, value: None)
    with caplog.at_level(logging.INFO):
        streamed = paint.create_engine(
            EngineConfig(
                kind="paint", checkpoint=str(paint_folder), vram_budget_bytes=least_bytes, planned=["offload"]
            ),
            lambda name, value: None,
        )
    assert "for paint: float32, streamed" in caplog.text
    assert abs(picture(whole) - picture(streamed)).max() <= 1


@pytest.mark.parametrize(
    ("fields", "quantizations", "offloads"),
    [
        ({}, ["off", "int8", "int4"], ["off", "streamed"]),
        ({"planned": ["offload"]}, ["off"], ["off", "streamed"]),
        ({"planned": ["quantization"]}, ["off", "int8", "int4"], ["off"]),
        ({"planned": ["offload"], "quantization": "int8"}, ["int8"], ["off"]),
        ({"planned": ["quantization"], "offload": "streamed"}, ["off"], ["streamed"]),
        ({"planned": [], "offload": "bminf", "quantization": "int8"}, ["int8"], ["bminf"]),
    ],
)
def test_what_somebody_set_is_the_only_choice(
    fields: dict[str, Any], quantizations: list[str], offloads: list[str]
) -> None:
    made = choices(chat_config(Path(), **fields))
    assert (made.quantizations, made.offloads) == (quantizations, offloads)


def test_a_processor_may_compute_in_half_precision_and_a_gpu_is_as_set() -> None:
    assert choices(chat_config(Path())).dtypes == ["float32", "bfloat16"]
    assert choices(chat_config(Path(), planned=[])).dtypes == ["float32"]
    on_gpu = choices(chat_config(Path(), device="cuda:1", dtype="float16"))
    assert on_gpu.dtypes == ["float16"] and on_gpu.is_cuda


def test_a_plan_becomes_the_configuration() -> None:
    config = chat_config(bundled_checkpoint("chat"), vram_budget_bytes=4096 * _MIB)
    made = make_plan(model_sizes(config), 4096 * _MIB, choices(config))
    planned = applied(config, made, "chat")
    assert (planned.kv_bytes, planned.offload, planned.offload_bytes) == (made.kv_bytes, "off", 0)
    assert planned.checkpoint == config.checkpoint
    assert applied(config, made, "paint").kv_bytes == 0


@pytest.mark.slow
def test_the_published_sizes_are_read_off_shapes() -> None:
    """What tests/models/engines/test_memory_plan.py takes for the published sizes."""
    from models.checkpoints.weights import skeleton

    model = skeleton(PUBLISHED_CHAT)
    first = sum(parameter.numel() for parameter in model.get_submodule("llm.layers.0").parameters())
    llm = sum(parameter.numel() for parameter in model.get_submodule("llm").parameters())
    assert (first, llm - 48 * first) == (192_946_176, 354_664_448)
    assert sum(parameter.numel() for parameter in model.parameters()) - llm == 628_200_448
