"""Tiny checkpoints: small, quickly made, the same every time, marked as untrained, in working order."""

import time
from pathlib import Path

import pytest
import torch

from models.checkpoints.loading import load_chat, load_paint
from models.checkpoints.tiny import tiny_vocabulary, write_tiny_checkpoints


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints") / "tiny"
    started = time.perf_counter()
    write_tiny_checkpoints(folder, seed=0)
    assert time.perf_counter() - started < 10
    return folder


@pytest.mark.slow
def test_it_is_small(tiny: Path) -> None:
    assert sum(path.stat().st_size for path in tiny.rglob("*")) < 30e6


@pytest.mark.slow
def test_both_say_that_they_are_untrained(tiny: Path) -> None:
    assert load_chat(tiny / "chat").untrained
    assert load_paint(tiny / "paint").untrained


@pytest.mark.slow
def test_a_seed_makes_the_same_checkpoints(tiny: Path, tmp_path: Path) -> None:
    write_tiny_checkpoints(tmp_path / "again", seed=0)
    write_tiny_checkpoints(tmp_path / "other", seed=1)
    for kind in ("chat", "paint"):
        first, again, other = (
            (folder / kind / "fingerprint").read_text() for folder in (tiny, tmp_path / "again", tmp_path / "other")
        )
        assert first == again != other


@pytest.mark.slow
def test_the_vocabulary_reads_common_text(tiny: Path) -> None:
    tokenizer = load_chat(tiny / "chat").tokenizer
    assert tokenizer.vocab_size == len(tiny_vocabulary()) == len(set(tiny_vocabulary()))
    for text in ("图里有什么？请说得详细一些。", "What is in the picture?\n3 < 4 & 5!"):
        ids, table = tokenizer.encode(text.replace("<", "<<"), {})
        assert not table
        assert tokenizer.decode(ids, {}) == text.replace("<", "<<")


def test_chat_sees_its_picture(tiny: Path) -> None:
    loaded = load_chat(tiny / "chat", dtype=torch.float32)
    side = loaded.config.image_size_px
    assert (side, loaded.config.num_query_tokens) == (224, 64)
    pictures = torch.stack((torch.zeros(3, side, side), torch.ones(3, side, side)))
    embeddings = loaded.model.image_embeddings(pictures)
    assert (embeddings[0] - embeddings[1]).abs().max() > 0.1


@pytest.mark.slow
def test_paint_makes_pictures_of_eight_pixels_a_latent(tiny: Path) -> None:
    loaded = load_paint(tiny / "paint", dtype=torch.float32)
    width = loaded.config.cross_attention_dim
    with torch.no_grad():
        noise = loaded.model.unet(torch.randn(2, 4, 16, 24), 500, torch.randn(2, 5, width)).sample
        picture = loaded.vae.decode(noise).sample
    assert noise.shape == (2, 4, 16, 24)
    assert picture.shape == (2, 3, 128, 192)
    assert picture.isfinite().all()
    assert picture.std() > 0.05
