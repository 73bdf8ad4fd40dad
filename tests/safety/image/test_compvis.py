"""The release's checker, as small random weights: pixels scaled once, a flag as 1, nothing of the pictures changed."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from PIL import Image
from transformers import CLIPConfig

from safety.image.compvis import CompVisChecker
from tests.safety.pictures import scene


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = CLIPConfig(
        projection_dim=16, vision_config=tower | {"image_size": 224, "patch_size": 32, "projection_dim": 16}
    )
    torch.manual_seed(0)
    checker = StableDiffusionSafetyChecker(config)
    torch.nn.init.normal_(checker.concept_embeds)
    torch.nn.init.normal_(checker.special_care_embeds)
    torch.nn.init.constant_(checker.concept_embeds_weights, 2.0)  # beyond any cosine: nothing is flagged
    torch.nn.init.constant_(checker.special_care_embeds_weights, 2.0)
    with torch.no_grad():
        pixels = torch.from_numpy(np.stack([_by_hand(scene(300, 200, seed)) for seed in (0, 1, 2)]))
        embeds = checker.visual_projection(checker.vision_model(pixels)[1])
        checker.concept_embeds[3] = embeds[0]  # one of the pictures is its fourth concept, the others are near it
        others = torch.nn.functional.cosine_similarity(embeds[1:], embeds[:1]).max()
        assert others < 0.997  # the checker rounds to thousandths
        checker.concept_embeds_weights[3] = (1 + others) / 2
    folder = tmp_path_factory.mktemp("compvis")
    checker.save_pretrained(folder)
    return folder


def _by_hand(picture: Image.Image) -> np.ndarray:
    """CLIP's preprocessing: shorter side to 224, its middle, 0..1 by one division, mean and deviation."""
    scale = 224 / min(picture.size)
    width_px, height_px = (int(side * scale) for side in picture.size)
    resized = picture.resize((width_px, height_px), Image.Resampling.BICUBIC)
    left, top = (width_px - 224) // 2, (height_px - 224) // 2
    rgb = np.asarray(resized.crop((left, top, left + 224, top + 224)), np.float32) / 255
    mean, deviation = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    return np.ascontiguousarray(((rgb - np.float32(mean)) / np.float32(deviation)).transpose(2, 0, 1), np.float32)


@pytest.mark.slow
def test_what_is_a_concept_is_flagged_and_nothing_else(folder: Path) -> None:
    checker = CompVisChecker(folder)
    pictures = [scene(300, 200, seed) for seed in (1, 0, 2)]
    before = [picture.tobytes() for picture in pictures]
    assert checker.scores(pictures) == [{"sexual": 0.0}, {"sexual": 1.0}, {"sexual": 0.0}]
    assert [picture.tobytes() for picture in pictures] == before
    assert checker.fingerprint == CompVisChecker(folder).fingerprint


@pytest.mark.slow
def test_whatever_changes_a_flag_changes_the_fingerprint(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("safety.fingerprint._SMALL_BYTES", (folder / "model.safetensors").stat().st_size - 1)
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    told = [CompVisChecker(tmp_path).fingerprint]
    checker = StableDiffusionSafetyChecker.from_pretrained(tmp_path)
    with torch.no_grad():
        checker.concept_embeds[16, 15] += 1  # its last value of many
    checker.save_pretrained(tmp_path)
    told.append(CompVisChecker(tmp_path).fingerprint)
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": [0.5, 0.5, 0.5]}')
    told.append(CompVisChecker(tmp_path).fingerprint)
    assert len(set(told)) == 3
