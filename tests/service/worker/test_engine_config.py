"""What an engine is built from, by the settings."""

import pytest

from models.checkpoints.bundled import bundled_checkpoint
from models.jobs import DeviceTurns, Kind
from service.core.settings import SettingsError, read_settings
from service.worker.engine_config import engine_config


@pytest.mark.parametrize(
    ("device", "configured", "dtype"),
    [("cpu", "auto", "float32"), ("cuda:1", "auto", "float16"), ("cuda", "bfloat16", "bfloat16")],
)
@pytest.mark.parametrize("kind", ["chat", "paint"])
def test_the_dtype_follows_the_device(kind: Kind, device: str, configured: str, dtype: str) -> None:
    settings = read_settings(**{f"{kind}_device": device, f"{kind}_dtype": configured})
    config = engine_config(kind, settings)
    assert (config.kind, config.device, config.dtype) == (kind, device, dtype)


@pytest.mark.parametrize(
    ("named", "device", "devices", "dtype"),
    [
        ("", "cpu", (), "float32"),
        ("cuda:1", "cuda:1", (), "float16"),
        ("cuda:0,cuda:1", "cuda:0", ("cuda:0", "cuda:1"), "float16"),
        ("cpu,cpu", "cpu", ("cpu", "cpu"), "float32"),
    ],
)
def test_one_of_several_devices_is_one(named: str, device: str, devices: tuple[str, ...], dtype: str) -> None:
    config = engine_config("chat", read_settings(chat_devices=named))
    assert (config.device, config.devices, config.dtype) == (device, devices, dtype)


@pytest.mark.parametrize("kind", ["chat", "paint"])
def test_traditional_characters_are_folded_as_set(kind: Kind) -> None:
    assert engine_config(kind, read_settings()).fold_traditional == "auto"
    for setting in ("on", "off"):
        assert engine_config(kind, read_settings(fold_traditional=setting)).fold_traditional == setting


@pytest.mark.parametrize(
    ("settings", "checkpoint"),
    [
        ({}, str(bundled_checkpoint("paint"))),
        ({"paint_checkpoint": "file.pt"}, "file.pt"),
        ({"paint_engine": "elsewhere:create"}, ""),
    ],
)
def test_the_bundled_checkpoint_is_for_our_engine_without_a_checkpoint(
    settings: dict[str, str], checkpoint: str
) -> None:
    assert engine_config("paint", read_settings(**settings)).checkpoint == checkpoint


@pytest.mark.parametrize(("step_cache", "full_every"), [("off", 1), ("2", 2), ("3", 3)])
def test_the_step_cache_is_how_many_steps_share_a_full_one(step_cache: str, full_every: int) -> None:
    assert engine_config("paint", read_settings(paint_step_cache=step_cache)).full_every == full_every


@pytest.mark.parametrize("kind", ["chat", "paint"])
def test_a_device_is_shared_as_set(kind: Kind) -> None:
    assert engine_config(kind, read_settings(device_turn_s=3)).turns is None
    shared = read_settings(
        device_sharing="turns", device_lock_dir="/run/locks", device_turn_s=3, idle_unload_s=0, device_bytes=24
    )
    expected = DeviceTurns(lock_dir="/run/locks", turn_s=3, idle_unload_s=0, device_bytes=24)
    assert engine_config(kind, shared).turns == expected
    defaults = read_settings(device_sharing="turns")
    assert engine_config(kind, defaults).turns == DeviceTurns(), "defaults are said twice, and alike"
    assert engine_config("safety", shared).turns is None


@pytest.mark.parametrize("kind", ["chat", "paint"])
def test_quantization_is_each_models_own(kind: Kind) -> None:
    settings = read_settings(**{f"{kind}_quantization": "int8"})
    assert engine_config(kind, settings).quantization == "int8"
    assert engine_config("paint" if kind == "chat" else "chat", settings).quantization == "off"


def test_an_unknown_quantization_is_refused_in_one_line() -> None:
    with pytest.raises(SettingsError, match="VISCPM_CHAT_QUANTIZATION=int3: .*'off', 'int8' or 'int4'") as refused:
        read_settings(chat_quantization="int3")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("kind", ["chat", "paint"])
def test_the_language_model_is_whole_on_the_device_unless_somebody_wants_something_else(kind: Kind) -> None:
    config = engine_config(kind, read_settings())
    assert (config.offload, config.offload_bytes, config.quantization, config.vram_budget_bytes) == ("off", 0, "off", 0)
    set_ones = {"offload": "streamed", f"{kind}_quantization": "int8", "vram_budget": "17g"}
    config = engine_config(kind, read_settings(**set_ones))
    assert (config.offload, config.quantization, config.vram_budget_bytes) == ("streamed", "int8", 17 * 2**30)


@pytest.mark.parametrize("kind", ["chat", "paint"])
@pytest.mark.parametrize(("offload", "expected"), [(None, "streamed"), ("streamed", "streamed"), ("bminf", "bminf")])
def test_the_releases_limit_streams_layers(
    kind: Kind, offload: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_MEMORY_CPMBEE_MAX", "1g")
    if offload:
        monkeypatch.setenv("VISCPM_OFFLOAD", offload)
    config = engine_config(kind, read_settings())
    assert (config.offload, config.offload_bytes) == (expected, 2**30)


@pytest.mark.parametrize("kind", ["chat", "paint"])
def test_a_plan_may_change_what_nobody_set(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    assert engine_config(kind, read_settings()).planned == ["dtype", "quantization", "offload"]
    monkeypatch.setenv("VISCPM_OFFLOAD", "off")  # as by default, but said
    assert engine_config(kind, read_settings()).planned == ["dtype", "quantization"]
    monkeypatch.setenv(f"VISCPM_{kind.upper()}_QUANTIZATION", "off")
    monkeypatch.setenv(f"VISCPM_{kind.upper()}_DTYPE", "float16")
    assert engine_config(kind, read_settings()).planned == []
