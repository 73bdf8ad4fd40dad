"""Pictures and prompts in slices: the same numbers as at once."""

import pytest
import torch

from models.checkpoints.loading import LoadedChat
from models.engines.chat.kv_pool import KVPool
from models.engines.chat.prefill import PromptRows, picture_slices, prompt_slices
from models.engines.chat.prompt import build_prompt, pack_prompts
from models.networks.cpm_bee.answer_bias import bias_to_prompt
from models.networks.vision.preprocess import normalise
from tests.models.engines.chat.jobs import SIDE_PX, job, picture


@torch.inference_mode()
def test_a_picture_is_looked_at_a_layer_at_a_time(loaded: LoadedChat) -> None:
    slices = picture_slices(loaded.model, picture(3))
    for _ in loaded.model.vision_encoder.layers:
        next(slices)
    with pytest.raises(StopIteration) as stop:
        next(slices)
    pixels = torch.frombuffer(bytearray(picture(3)), dtype=torch.uint8).view(1, SIDE_PX, SIDE_PX, 3)
    assert torch.equal(stop.value.value, loaded.model.image_embeddings(normalise(pixels))[0])


@torch.inference_mode()
def test_prompts_keys_are_those_of_the_plain_path_wherever_they_lie_and_whatever_is_read_beside(
    loaded: LoadedChat,
) -> None:
    llm, config = loaded.model.llm, loaded.model.config
    pool = KVPool(llm.config, 20, torch.float32, torch.device("cpu"))
    free = list(torch.randperm(pool.num_slots, generator=torch.Generator().manual_seed(1)))
    rows: list[PromptRows] = []
    caches = []
    questions = (
        "日 x 本",
        "?",
        "What is in the picture, and on its right?",
        "!",
    )  # the second and the last are as long
    for number, question in enumerate(questions):
        prompt = build_prompt(job(question=question), loaded.tokenizer, config.num_query_tokens)
        batch = pack_prompts([prompt], loaded.tokenizer)
        embeddings = torch.randn(4, 32, generator=torch.Generator().manual_seed(number))
        caches.append(llm.prefill(batch, loaded.model.embed_prompt(batch, [embeddings]), 1, 1)[1])
        slots = [int(free.pop()) for _ in range(prompt.num_tokens)]
        rows.append(PromptRows(batch, batch.predict_segments[0][0][0], embeddings, slots))

    assert len({len(row.slots) for row in rows}) == 3
    slices = prompt_slices(loaded.model, rows, pool)
    for _ in llm.layers:
        next(slices)
    with pytest.raises(StopIteration) as stop:
        next(slices)
    for row, read in zip(rows, stop.value.value, strict=True):
        assert torch.equal(read.to_prompt, bias_to_prompt(llm.position_bias, row.batch)[0, row.segment])
    extension_rows = llm.extension_rows(rows[0].batch.extension_ids, rows[0].batch.extension_subs)
    assert len(extension_rows) > 0 and torch.equal(stop.value.value[0].extension_rows, extension_rows)
    for row, cache in zip(rows, caches, strict=True):
        for layer in range(len(llm.layers)):
            for own, plain in ((pool.keys, cache.keys), (pool.values, cache.values)):
                expected = plain[layer, 0, :, : len(row.slots)].transpose(0, 1)
                torch.testing.assert_close(own[layer][row.slots], expected, rtol=1e-5, atol=1e-6)
