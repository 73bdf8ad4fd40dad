"""Quantized folders: what stands in them, what is loaded of them, and what is refused."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from models.checkpoints.bundled import bundled_checkpoint
from models.checkpoints.cli import describe
from models.checkpoints.conversion import average, convert
from models.checkpoints.loading import load_chat, load_paint, open_checkpoint
from models.checkpoints.quantization.stored import is_quantizable
from models.checkpoints.tensor_files import CheckpointError
from models.checkpoints.tiny import write_tiny_checkpoints
from models.jobs import Quantization
from models.networks.cpm_bee.quantized_linear import Int4Linear, Int8Linear

EACH = pytest.mark.parametrize("quantization", ["int8", "int4"])
CHAT = bundled_checkpoint("chat")
LAYERS = 3 * 7


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[Quantization, Path]:
    """The bundled Chat, quantized."""
    root = tmp_path_factory.mktemp("quantized")
    quantized: tuple[Quantization, ...] = ("int8", "int4")
    for quantization in quantized:
        convert(CHAT, root / quantization, quantization=quantization)
    return {quantization: root / quantization for quantization in quantized}


def test_the_linear_layers_of_the_language_model_alone_are_quantized() -> None:
    names = open_checkpoint(CHAT).parameters.values()
    quantizable = [name for name in names if is_quantizable(name)]
    assert len(quantizable) == LAYERS and all(name.startswith("llm.layers.") for name in quantizable)
    assert not any(part in name for name in quantizable for part in ("norm", "embedding", "position_bias"))


@pytest.mark.slow
@EACH
def test_a_folder_says_what_it_is(folders: dict[Quantization, Path], quantization: Quantization) -> None:
    folder = folders[quantization]
    config = json.loads((folder / "config.json").read_text())
    assert config.pop("quantization") == quantization
    assert config == json.loads((CHAT / "config.json").read_text())
    stored = open_checkpoint(folder)
    assert stored.quantization == quantization and len(stored.quantized) == LAYERS
    weight = "llm.encoder.layers.0.ffn.ffn.w_out.weight"
    names = {"int8": ["int8", "scales"], "int4": ["int4", "scales", "zeros"]}[quantization]
    assert sorted(name for name in stored.tensors if name.startswith(weight)) == [f"{weight}.{name}" for name in names]
    found, before = describe(folder), describe(CHAT)
    assert found["quantization"] == quantization and before["quantization"] == "off"
    assert found["parameters"] == before["parameters"] and found["unused"] == 0
    assert found["bytes"] < before["bytes"]
    assert found["fingerprint"] == (folder / "fingerprint").read_text().strip() != before["fingerprint"]


@pytest.mark.slow
@EACH
def test_what_is_loaded_is_what_quantizing_while_loading_gives(
    folders: dict[Quantization, Path], quantization: Quantization
) -> None:
    at_once = load_chat(CHAT, dtype=torch.float32, quantization=quantization)
    stored = load_chat(folders[quantization], dtype=torch.float32)
    assert at_once.quantization == stored.quantization == quantization
    one, other = at_once.model.state_dict(), stored.model.state_dict()
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    kind = {"int8": Int8Linear, "int4": Int4Linear}[quantization]
    assert sum(type(module) is kind for module in stored.model.modules()) == LAYERS
    assert load_chat(folders[quantization], quantization=quantization).fingerprint == stored.fingerprint


@pytest.mark.slow
def test_paint_keeps_its_unet(tmp_path: Path) -> None:
    convert(bundled_checkpoint("paint"), tmp_path / "paint", quantization="int4")
    plain, quantized = load_paint(bundled_checkpoint("paint")), load_paint(tmp_path / "paint")
    assert quantized.quantization == "int4"
    assert sum(type(module) is Int4Linear for module in quantized.model.llm.modules()) == 7
    for name, tensor in plain.model.unet.state_dict().items():
        assert torch.equal(quantized.model.unet.state_dict()[name], tensor)


@pytest.mark.slow
def test_a_quantized_folder_converts_again_unchanged(folders: dict[Quantization, Path], tmp_path: Path) -> None:
    digest = (folders["int4"] / "fingerprint").read_text().strip()
    assert convert(folders["int4"], tmp_path / "again", shard_bytes=50_000) == digest
    assert convert(folders["int4"], tmp_path / "named", quantization="int4") == digest
    assert load_chat(tmp_path / "again").quantization == "int4"


@pytest.mark.slow
def test_a_folder_of_another_format_is_refused(folders: dict[Quantization, Path], tmp_path: Path) -> None:
    refusal = "quantized to int8 already, but int4 is wanted"
    with pytest.raises(CheckpointError, match=refusal) as refused:
        load_chat(folders["int8"], quantization="int4")
    assert "\n" not in str(refused.value)
    with pytest.raises(CheckpointError, match=refusal):
        convert(folders["int8"], tmp_path / "never", quantization="int4")
    assert not (tmp_path / "never").exists()


def test_integers_are_not_averaged(folders: dict[Quantization, Path], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="quantized to int8, which cannot be averaged"):
        average([folders["int8"], folders["int8"]], tmp_path / "never")


@pytest.mark.slow
def test_a_folder_whose_groups_divide_few_layers_is_int4_all_the_same(tmp_path: Path) -> None:
    """160 inputs are no multiple of 64."""
    write_tiny_checkpoints(tmp_path, seed=0)
    convert(tmp_path / "chat", tmp_path / "quantized", quantization="int4")
    model = load_chat(tmp_path / "quantized", quantization="int4").model
    assert type(model.llm.blocks[0].feed_forward.gate) is Int4Linear
    assert type(model.llm.blocks[0].feed_forward.down) is Int8Linear


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("missing", "of the quantized llm.encoder.layers.0.ffn.ffn.w_out.weight it has int4, zeros alone"),
        ("shape", "the parts of the quantized llm.encoder.layers.0.ffn.ffn.w_out.weight do not fit one another"),
        ("format", "its configuration says quantization 'int8', its tensors are int4"),
    ],
)
def test_a_broken_folder_is_refused(folders: dict[Quantization, Path], tmp_path: Path, change: str, told: str) -> None:
    convert(folders["int4"], tmp_path / "broken")
    [shard] = (tmp_path / "broken").glob("*.safetensors")
    tensors, scales = load_file(shard), "llm.encoder.layers.0.ffn.ffn.w_out.weight.scales"
    if change == "missing":
        del tensors[scales]
        index = tmp_path / "broken" / "model.safetensors.index.json"
        content = json.loads(index.read_text())
        del content["weight_map"][scales]
        index.write_text(json.dumps(content))
    elif change == "shape":
        tensors[scales] = tensors[scales][:, :1].contiguous()
    else:
        config = tmp_path / "broken" / "config.json"
        config.write_text(config.read_text().replace('"int4"', '"int8"'))
    save_file(tensors, shard)
    with pytest.raises(CheckpointError, match=told):
        load_chat(tmp_path / "broken")
