"""Scores of a tiny random Chinese-CLIP against the reference's formula."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from models.engines.paint.rerank import Reranker
from tests.models.clip import write_tiny_clip

PROMPT = "红色的猫"


@pytest.fixture(scope="module")
def reranker(clip_folder: Path) -> Reranker:
    return Reranker(clip_folder, torch.device("cpu"))


def pictures(count: int) -> list[Image.Image]:
    noise = np.random.default_rng(7)
    return [Image.fromarray(noise.integers(0, 256, (64, 48, 3), dtype=np.uint8)) for _ in range(count)]


@pytest.mark.slow
def test_scores_are_the_diagonal_over_the_repeated_prompt(reranker: Reranker) -> None:
    candidates = pictures(4)
    inputs = reranker.processor(text=[PROMPT] * 4, images=candidates, return_tensors="pt", padding=True)
    with torch.inference_mode():
        expected = reranker.model(**inputs).logits_per_image.diagonal().tolist()

    scores = reranker.scores(PROMPT, candidates)

    assert scores == pytest.approx(expected, abs=1e-4)
    assert len(set(scores)) == 4, "random pictures must not score alike, or the comparison says nothing"


def test_score_does_not_depend_on_the_other_pictures(reranker: Reranker) -> None:
    candidates = pictures(3)
    assert reranker.scores(PROMPT, candidates)[1] == pytest.approx(
        reranker.scores(PROMPT, candidates[1:2])[0], abs=1e-4
    )


def test_an_overlong_prompt_is_cut(reranker: Reranker) -> None:
    longest = reranker.model.config.text_config.max_position_embeddings
    kept = "猫" * (longest - 2)  # [CLS] and [SEP] take two places
    assert reranker.scores(kept + "红" * 50, pictures(1)) == pytest.approx(reranker.scores(kept, pictures(1)), abs=1e-4)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no-such-clip"):
        Reranker(tmp_path / "no-such-clip", torch.device("cpu"))


@pytest.mark.slow
def test_a_clip_judges_english_prompts(tmp_path: Path) -> None:
    write_tiny_clip(tmp_path / "tiny-clip")
    reranker = Reranker(tmp_path / "tiny-clip", torch.device("cpu"))
    candidates = pictures(3)
    inputs = reranker.processor(text=["cat"] * 3, images=candidates, return_tensors="pt", padding=True)
    with torch.inference_mode():
        expected = reranker.model(**inputs).logits_per_image.diagonal().tolist()
    assert reranker.scores("cat", candidates) == pytest.approx(expected, abs=1e-4)
    assert len(set(expected)) == 3
    assert len(reranker.scores("cat" * 20, candidates)) == 3, "longer than the text tower reads"


def test_another_kind_of_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(OSError, match="holds a bert; allowed are chinese_clip, clip"):
        Reranker(tmp_path, torch.device("cpu"))
