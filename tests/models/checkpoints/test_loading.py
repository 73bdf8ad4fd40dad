"""Published files through the loader: unmodified, by path, in the dtype that is asked for."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.checkpoints.conversion import write_json
from models.checkpoints.loading import load_chat, load_paint
from models.checkpoints.published_names import our_name
from models.checkpoints.tensor_files import CheckpointError
from models.networks.chat.config import ChatConfig
from models.networks.cpm_bee.sharding import Shard
from models.networks.paint.config import SD21_BASE_SCHEDULER, PaintConfig

Tensors = dict[str, Tensor]
Save = Callable[..., Path]


@pytest.mark.slow
def test_a_bare_chat_file_loads_with_sizes_from_its_shapes(
    chat_file: Path, chat_tensors: Tensors, chat_config: ChatConfig
) -> None:
    loaded = load_chat(chat_file)
    assert loaded.config == chat_config
    assert not loaded.untrained
    assert loaded.tokenizer.vocab_size == chat_config.llm.vocab_size
    parameters = dict(loaded.model.named_parameters())
    stored = {our_name("chat", name): tensor for name, tensor in chat_tensors.items() if our_name("chat", name)}
    assert parameters.keys() == stored.keys()
    assert all(torch.equal(parameters[name], stored[name]) for name in stored if name)
    assert not loaded.model.training
    assert not any(parameter.requires_grad or parameter.is_meta for parameter in parameters.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pytorch_model.v1.bin", "viscpm_chat_zhplus_checkpoint.pt", "any.pth"])
def test_any_file_name_will_do(chat_tensors: Tensors, save: Save, name: str) -> None:
    assert load_chat(save(chat_tensors, name)).fingerprint


@pytest.mark.slow
def test_a_folder_with_one_file_stands_for_it(chat_file: Path) -> None:
    assert load_chat(chat_file.parent).fingerprint == load_chat(chat_file).fingerprint


@pytest.mark.slow
def test_a_loaded_chat_model_runs(chat_file: Path, chat_config: ChatConfig) -> None:
    model = load_chat(chat_file, dtype=torch.float32).model
    embeddings = model.image_embeddings(torch.zeros(2, 3, 32, 32))
    assert embeddings.shape == (2, chat_config.num_query_tokens, chat_config.llm.dim_model)
    assert embeddings.isfinite().all()


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_are_converted(chat_file: Path, chat_tensors: Tensors, dtype: torch.dtype) -> None:
    model = load_chat(chat_file, dtype=dtype).model
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    assert torch.equal(model.query_tokens, chat_tensors["query"].to(dtype))
    assert torch.equal(model.llm.embedding.weight, chat_tensors["llm.input_embedding.weight"].to(dtype))


@pytest.mark.slow
def test_writing_to_loaded_weights_leaves_the_file_alone(chat_file: Path) -> None:
    before = chat_file.read_bytes()
    for parameter in load_chat(chat_file).model.parameters():
        parameter.zero_()
    assert chat_file.read_bytes() == before


@pytest.mark.slow
def test_unused_tensors_may_be_absent(chat_tensors: Tensors, save: Save) -> None:
    used = {name: tensor for name, tensor in chat_tensors.items() if our_name("chat", name)}
    assert len(used) == len(chat_tensors) - 4
    load_chat(save(used))


@pytest.mark.slow
def test_a_configuration_tells_what_shapes_do_not(chat_file: Path, chat_config: ChatConfig) -> None:
    fields = replace(chat_config, vision=replace(chat_config.vision, num_heads=4)).to_published()
    fields["llm"]["half"] = False
    write_json(chat_file.parent / "named.json", fields)
    named = load_chat(chat_file, config=chat_file.parent / "named.json")
    assert (named.config.vision.num_heads, named.config.llm.half) == (4, False)
    (chat_file.parent / "named.json").rename(chat_file.parent / "chat_config.json")
    assert load_chat(chat_file).config == named.config  # beside the file


def test_vision_heads_that_no_shape_tells_are_asked_for(chat_tensors: Tensors, save: Save) -> None:
    narrow = {
        name: tensor[tuple(slice(0, 48 if size == 64 else None) for size in tensor.shape)]
        for name, tensor in chat_tensors.items()
    }
    with pytest.raises(CheckpointError, match="48 wide, no multiple of the published head width 64"):
        load_chat(save({name: tensor.contiguous() for name, tensor in narrow.items()}))


@pytest.mark.slow
def test_another_picture_side_resizes_the_position_table(chat_file: Path, chat_tensors: Tensors) -> None:
    loaded = load_chat(chat_file, dtype=torch.float32, image_size_px=48)
    assert loaded.config.image_size_px == 48
    table = loaded.model.vision_encoder.image_positions
    assert table.shape == (3 + 36, 64)
    stored = chat_tensors["vpm.beit3.encoder.embed_positions.A.weight"]
    assert torch.equal(table[:3], stored[:3].float())
    assert torch.equal(table, table.half().float())  # rounded to what the file holds
    assert loaded.model.image_embeddings(torch.zeros(1, 3, 48, 48)).isfinite().all()


@pytest.mark.slow
def test_a_paint_file_loads_as_it_is_stored(
    paint_file: Path, paint_tensors: Tensors, paint_config: PaintConfig
) -> None:
    loaded = load_paint(paint_file)
    assert loaded.config.llm == paint_config.llm
    assert {parameter.dtype for parameter in loaded.model.llm.parameters()} == {torch.float16}
    assert {parameter.dtype for parameter in loaded.model.unet.parameters()} == {torch.float32}
    adapter = loaded.model.prompt_adapter.linear.weight
    assert torch.equal(adapter, paint_tensors["trans_block.w_out_res.weight"])
    assert loaded.vae.dtype == torch.float32
    assert loaded.scheduler_config == SD21_BASE_SCHEDULER
    noise = loaded.model.unet(torch.zeros(1, 4, 8, 8), 7, torch.zeros(1, 3, 16)).sample
    assert noise.isfinite().all()


@pytest.mark.slow
def test_paint_takes_two_dtypes(paint_file: Path) -> None:
    loaded = load_paint(paint_file, dtype=torch.bfloat16, unet_dtype=torch.float32)
    assert {parameter.dtype for parameter in loaded.model.llm.parameters()} == {torch.bfloat16}
    assert {parameter.dtype for parameter in loaded.model.unet.parameters()} == {torch.float32}
    halved = load_paint(paint_file, dtype=torch.float16)
    assert {parameter.dtype for parameter in halved.model.parameters()} == {torch.float16}
    assert halved.vae.dtype == torch.float32


@pytest.mark.slow
def test_paint_ignores_what_is_none_of_its_parts(paint_file: Path, paint_tensors: Tensors) -> None:
    before = load_paint(paint_file).fingerprint
    torch.save(paint_tensors | {"vae.encoder.weight": torch.ones(3), "extra": torch.ones(1)}, paint_file)
    assert load_paint(paint_file).fingerprint != before  # it is another file, though


@pytest.mark.slow
def test_two_shards_are_the_language_model_and_the_first_has_the_rest(chat_file: Path, chat_config: ChatConfig) -> None:
    whole = load_chat(chat_file)
    shards = [load_chat(chat_file, dtype=torch.float32, shard=Shard(rank, 2)) for rank in range(2)]
    names = dict(whole.model.named_parameters())
    parts = [dict(shard.model.named_parameters()) for shard in shards]
    for name, parameter in names.items():
        first, second = (part[name] for part in parts)
        assert second.is_meta == (not name.startswith("llm.")) and not first.is_meta, name
        if not second.is_meta and first.shape != parameter.shape:
            axis = 0 if first.shape[0] != parameter.shape[0] else 1
            assert torch.equal(torch.cat([first, second], axis), parameter.float()), name
        else:
            assert torch.equal(first, parameter.float()), name
    assert {shard.fingerprint for shard in shards} == {whole.fingerprint}
    assert shards[0].config == chat_config and shards[1].model.llm.config.num_heads == chat_config.llm.num_heads // 2
