from pathlib import Path

import pytest

from models.evaluation.errors import EvaluationError
from models.evaluation.image_quality.clip_model import load_clip
from tests.models.evaluation.image_quality.pictures import CPU


@pytest.mark.slow
def test_a_long_caption_is_cut_with_its_end_token(clip_folder: Path) -> None:
    clip, processor = load_clip(clip_folder, CPU)
    ids = processor(text=["a cat and a dog and a house"], return_tensors="pt", padding=True)["input_ids"]
    assert ids.shape == (1, 8)
    assert ids[0, -1] == clip.config.text_config.eos_token_id


def test_folders_without_a_clip_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"holds no config\.json; expected is a folder with all files of"):
        load_clip(tmp_path, CPU)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(EvaluationError, match="a bert model"):
        load_clip(tmp_path, CPU)
