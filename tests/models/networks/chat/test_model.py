"""Pictures in their places: each row of a batch gets its own (SPEC §11.5, fixed)."""

import torch

from models.checkpoints.loading import LoadedChat
from models.engines.chat.prompt import chat_tree
from models.networks.cpm_bee.packing import pack_chat


def test_each_row_gets_its_own_embeddings_in_its_own_place(loaded: LoadedChat) -> None:
    model, num_query_tokens = loaded.model, loaded.config.num_query_tokens
    questions = ["ab", "a longer question", "c"]
    batch = pack_chat([chat_tree(question, "", num_query_tokens) for question in questions], loaded.tokenizer)
    embeddings = torch.randn(
        3, num_query_tokens, loaded.config.llm.dim_model, generator=torch.Generator().manual_seed(1)
    )
    plain = model.llm.embed(batch.ids, batch.subs)
    embeds = model.embed_prompt(batch, [embeddings[0], embeddings[1], None])
    starts = set()
    for row in range(3):
        ((start, end),) = batch.image_bounds[row]
        starts.add(start)
        expected = plain[row].clone()
        if row < 2:
            expected[start:end] = embeddings[row]
        assert torch.equal(embeds[row], expected)
    assert len(starts) == 3  # left padding moves them


def test_image_embeddings_have_the_language_models_width(loaded: LoadedChat) -> None:
    side = loaded.config.image_size_px
    pixels = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(2))
    embeddings = loaded.model.image_embeddings(pixels)
    assert embeddings.shape == (2, loaded.config.num_query_tokens, loaded.config.llm.dim_model)
    assert not torch.allclose(embeddings[0], embeddings[1])
    torch.testing.assert_close(loaded.model.image_embeddings(pixels[1:]), embeddings[1:])
