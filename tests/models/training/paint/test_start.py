"""What a Paint run begins with: random weights fit to learn from, or a checkpoint's; and what cannot be used."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel

from models.checkpoints.bundled import bundled_checkpoint
from models.checkpoints.conversion import convert
from models.checkpoints.loading import load_paint
from models.checkpoints.tensor_files import CheckpointError
from models.networks.paint.config import SD21_BASE_SCHEDULER, SD21_BASE_UNET
from models.training.initial_weights import POSITION_BIAS_STD
from models.training.paint.settings import PaintSettings
from models.training.paint.start import NOISE, VELOCITY, PaintStart, paint_from_checkpoint, paint_from_sizes
from models.training.paint.task import PaintTask
from tests.models.training.paint.pictures import PAINT_SIZES, VAE_SIZES, Squares


def begin(files: dict[str, Path], folder: Path, **fields: Any) -> PaintStart:
    """Of the tiny sizes with some fields changed."""
    file = folder / "sizes.json"
    file.write_text(json.dumps({**PAINT_SIZES, **fields}))
    return paint_from_sizes(file, files["vocabulary"], files["vae"], seed=0)


@pytest.mark.slow
def test_sizes_are_the_files_and_what_they_leave_out_is_stable_diffusions(files: dict[str, Path]) -> None:
    start = paint_from_sizes(files["sizes"], files["vocabulary"], files["vae"], seed=0)
    config = start.model.config
    assert config.llm.dim_model == PAINT_SIZES["llm"]["dim_model"]
    assert config.llm.vocab_size == start.tokenizer.vocab_size, "which the file need not tell"
    assert config.unet["block_out_channels"] == [8, 16]
    assert config.unet["act_fn"] == SD21_BASE_UNET["act_fn"]
    channels = VAE_SIZES["latent_channels"]
    assert config.unet["in_channels"] == config.unet["out_channels"] == channels
    assert start.scheduler_config == SD21_BASE_SCHEDULER
    assert (start.vae_folder, start.vocabulary) == (files["vae"], files["vocabulary"])
    assert {parameter.dtype for parameter in start.model.parameters()} == {torch.float32}


@pytest.mark.slow
def test_residual_branches_begin_with_nothing_and_position_biases_small(files: dict[str, Path]) -> None:
    model = paint_from_sizes(files["sizes"], files["vocabulary"], files["vae"], seed=0).model
    blocks = [module for module in model.unet.modules() if isinstance(module, ResnetBlock2D)]
    attentions = [module for module in model.unet.modules() if isinstance(module, Transformer2DModel)]
    assert blocks and attentions
    ends = [block.conv2 for block in blocks] + [one.proj_out for one in attentions] + [model.unet.conv_out]
    assert not any(parameter.any() for end in ends for parameter in end.parameters())
    assert all(block.conv1.weight.any() for block in blocks)
    assert model.llm.position_bias.weight.std().item() == pytest.approx(POSITION_BIAS_STD, rel=0.2)
    latents, texts = torch.randn(1, 4, 4, 4), torch.randn(1, 3, 16)
    assert not model.unet(latents, 5, texts).sample.any(), "so it predicts nothing"


@pytest.mark.slow
def test_weights_are_the_seeds(files: dict[str, Path]) -> None:
    drawn = [
        paint_from_sizes(files["sizes"], files["vocabulary"], files["vae"], seed).model.state_dict()
        for seed in (1, 1, 2)
    ]
    assert all(torch.equal(drawn[0][name], drawn[1][name]) for name in drawn[0])
    for name in ("llm.embedding.weight", "llm.position_bias.weight", "unet.conv_in.weight"):
        assert not torch.equal(drawn[0][name], drawn[2][name]), name


@pytest.mark.slow
def test_spellings_of_one_name_begin_alike(files: dict[str, Path]) -> None:
    plain = paint_from_sizes(files["sizes"], files["vocabulary"], files["vae"], 0)
    alike = paint_from_sizes(files["sizes"], files["vocabulary"], files["vae"], 0, [(" red", "图")])
    before, after = plain.model.llm.embedding.weight, alike.model.llm.embedding.weight
    ids = [alike.tokenizer.encode(text, {})[0][0] for text in (" red", "图")]
    assert sorted((before != after).any(1).nonzero().flatten().tolist()) == sorted(ids)
    similarity = torch.nn.functional.cosine_similarity(after[ids[0]], after[ids[1]], dim=0)
    assert similarity > 0.5 > torch.nn.functional.cosine_similarity(before[ids[0]], before[ids[1]], dim=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"llm": {}}, "no usable sizes and vocabulary: the CPM-Bee configuration lacks dim_model"),
        ({"unet": {"block_out_channels": [8]}}, "no usable sizes and vocabulary: .*block_out_channels"),
        ({"llm": {**PAINT_SIZES["llm"], "vocab_size": 7}}, "entries, .*sizes.json wants 7$"),
        ({"unet": 3}, "no usable sizes and vocabulary: "),
    ],
)
def test_sizes_that_cannot_be_used_are_refused_in_one_line(
    files: dict[str, Path], tmp_path: Path, fields: dict[str, Any], said: str
) -> None:
    with pytest.raises(CheckpointError, match=said) as refused:
        begin(files, tmp_path, **fields)
    assert str(tmp_path / "sizes.json") in str(refused.value)


@pytest.mark.parametrize("absent", ["llm", "unet"])
def test_a_missing_part_is_named(files: dict[str, Path], tmp_path: Path, absent: str) -> None:
    file = tmp_path / "sizes.json"
    file.write_text(json.dumps({name: part for name, part in PAINT_SIZES.items() if name != absent}))
    with pytest.raises(CheckpointError, match=f"no usable sizes and vocabulary: '{absent}'"):
        paint_from_sizes(file, files["vocabulary"], files["vae"], seed=0)


def test_a_missing_vae_or_vocabulary_is_named(files: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=f"{tmp_path}: no VAE"):
        paint_from_sizes(files["sizes"], files["vocabulary"], tmp_path, seed=0)
    with pytest.raises(CheckpointError, match="no.txt: no usable sizes and vocabulary"):
        paint_from_sizes(files["sizes"], tmp_path / "no.txt", files["vae"], seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("llm_dtype", [torch.float32, torch.float16])
def test_a_checkpoint_begins_with_a_frozen_language_model_in_the_dtype_that_is_asked_for(
    start: PaintStart, tmp_path: Path, llm_dtype: torch.dtype
) -> None:
    task = PaintTask(start, Squares(), Squares(), 0, PaintSettings(train="all", export_dtype=torch.float16))
    task.stateful()
    task.export(tmp_path, start.model.state_dict())
    begun = paint_from_checkpoint(tmp_path, None, None, llm_dtype)
    assert {parameter.dtype for parameter in begun.model.llm.parameters()} == {llm_dtype}
    others = [*begun.model.unet.parameters(), *begun.model.prompt_adapter.parameters()]
    assert {parameter.dtype for parameter in others} == {torch.float32}
    stored = load_paint(tmp_path)
    assert begun.scheduler_config == stored.scheduler_config
    assert (begun.vae_folder, begun.vocabulary) == (tmp_path / "vae", tmp_path / "vocab.txt")
    assert torch.equal(begun.model.unet.conv_in.weight, stored.model.unet.conv_in.weight.float())


def test_a_checkpoint_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file or folder"):
        paint_from_checkpoint(tmp_path / "no", None, None, torch.float32)


@pytest.mark.slow
def test_sizes_may_say_what_is_predicted(files: dict[str, Path], tmp_path: Path) -> None:
    sizes = json.loads(files["sizes"].read_text())
    for prediction in (NOISE, VELOCITY):
        (tmp_path / "sizes.json").write_text(json.dumps({**sizes, "scheduler": {"prediction_type": prediction}}))
        start = paint_from_sizes(tmp_path / "sizes.json", files["vocabulary"], files["vae"], seed=0)
        assert start.scheduler_config == {**SD21_BASE_SCHEDULER, "prediction_type": prediction}
    (tmp_path / "sizes.json").write_text(json.dumps({**sizes, "scheduler": {"prediction_type": "sample"}}))
    with pytest.raises(CheckpointError, match="prediction_type is sample, allowed are epsilon and v_prediction"):
        paint_from_sizes(tmp_path / "sizes.json", files["vocabulary"], files["vae"], seed=0)


@pytest.mark.slow
def test_a_quantized_checkpoint_is_refused(tmp_path: Path) -> None:
    convert(bundled_checkpoint("paint"), tmp_path / "quantized", quantization="int4")
    with pytest.raises(CheckpointError, match="quantized to int4, which cannot be trained"):
        paint_from_checkpoint(tmp_path / "quantized", None, None, torch.float16)
