from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from models.evaluation.errors import EvaluationError
from models.evaluation.image_quality.feature_extractor import load_extractor
from models.evaluation.image_quality.inception import Inception
from tests.models.evaluation.image_quality.pictures import CPU


def drawn_weights() -> dict[str, Tensor]:
    """Weights of the 2015 Inception that depend on nothing but numpy's generator."""
    rng, drawn = np.random.default_rng(0), {}
    for name, tensor in sorted(Inception().state_dict().items()):
        shape = tuple(tensor.shape)
        if name.endswith("num_batches_tracked"):
            continue
        if name.endswith("running_var"):
            values = rng.uniform(0.5, 1.5, shape)
        elif name.endswith("bn.weight"):
            values = rng.uniform(0.8, 1.2, shape)
        elif len(shape) == 4:
            values = rng.standard_normal(shape, dtype=np.float32) * np.sqrt(2 / np.prod(shape[1:]))
        else:
            values = 0.2 * rng.standard_normal(shape)
        drawn[name] = torch.tensor(values, dtype=torch.float16)
    return drawn


@pytest.mark.slow
def test_inception_is_that_of_the_published_scores(tmp_path: Path) -> None:
    """The numbers were made by torch-fidelity 0.4.0 from the same weights and the same picture."""
    weights = drawn_weights()
    file = tmp_path / "inception.safetensors"
    save_file({**weights, "fc.bias": torch.zeros(1008)}, file)
    across, down = np.meshgrid(np.arange(64), np.arange(96))
    picture = np.stack([(across * 5) % 256, (down * 3 + across) % 256, (across * down) % 256]).astype(np.uint8)
    extractor = load_extractor(file, CPU, 64)
    found = extractor.module(torch.from_numpy(picture)[None])[0]
    assert (extractor.num_features, found.shape) == (2048, (2048,))
    expected = [0.3058, 0.0375, 2.5538, 0.046, 0.2734, 5.757, 3.7797, 0.8109]
    assert found[::256].tolist() == pytest.approx(expected, abs=2e-3)
    assert (found.mean().item(), found.std().item()) == pytest.approx((1.749072, 2.416624), abs=1e-4)

    torch.save({"conv.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(EvaluationError, match="470 tensors are missing and 1 unknown"):
        load_extractor(tmp_path / "other.pth", CPU, 64)
