from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from models.evaluation.errors import EvaluationError
from models.evaluation.image_quality.feature_extractor import load_extractor
from models.evaluation.image_quality.inception import WEIGHTS_FILE
from tests.models.evaluation.image_quality.pictures import CPU, TinyFeatures, save_script


class WithFlag(TinyFeatures):
    """Gives features only if asked to, as StyleGAN's file does."""

    def forward(self, pixels: Tensor, return_features: bool = False) -> Tensor:
        features = self.second(torch.relu(self.first(pixels.float() / 8))).mean((2, 3))
        return features if return_features else features[:, :1]


def test_extractor_files_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=f"{WEIGHTS_FILE}, to be had from https://github.com/toshas"):
        load_extractor(tmp_path / "absent.pth", CPU, 32)
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(EvaluationError, match="neither a file of tensors nor a TorchScript module"):
        load_extractor(tmp_path / "text.pth", CPU, 32)
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    with pytest.raises(EvaluationError, match="holds a list"):
        load_extractor(tmp_path / "list.pth", CPU, 32)
    with pytest.raises(EvaluationError, match=r"cannot take pictures \(2, 3, 32, 32\) of uint8: .*unsigned char"):
        load_extractor(save_script(nn.Conv2d(3, 2, 1), tmp_path / "float.pt"), CPU, 32)
    with pytest.raises(EvaluationError, match=r"features \(2, N\) are expected of two pictures, got \(2, 3, 32, 32\)"):
        load_extractor(save_script(nn.Identity(), tmp_path / "map.pt"), CPU, 32)


def test_a_script_is_asked_for_features_where_it_can_be(tmp_path: Path) -> None:
    torch.manual_seed(1)
    file = save_script(WithFlag(), tmp_path / "flag.pt")
    assert load_extractor(file, CPU, 32).num_features == 6
