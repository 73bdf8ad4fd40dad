"""The independent classifier: it learns, its file gives it back, and a stopped training loses nothing."""

from pathlib import Path

import numpy as np
import pytest
import torch

from models.emoji.drawings import Drawings, Style
from models.emoji.names import emoji_names
from models.emoji.scenes.renderer import Renderer
from models.emoji.sources import EVALUATION_SEED
from models.evaluation.cli import main
from models.evaluation.emoji.benchmark import drawn_names, pictures_of_names
from models.evaluation.emoji.classifier import Classifier, Sprites, Training, compose, load_classifier, write_classifier
from models.evaluation.errors import EvaluationError

CODES = [name.code for name in emoji_names()[:6]]


@pytest.fixture(scope="module")
def sprites() -> Sprites:
    return Sprites.of(CODES, [Drawings("twemoji")])


def test_pictures_are_a_function_of_the_seed(sprites: Sprites) -> None:
    pictures, labels = compose(sprites, 8, torch.Generator().manual_seed(3))
    again, same_labels = compose(sprites, 8, torch.Generator().manual_seed(3))
    assert pictures.shape == (8, 3, 64, 64)
    assert pictures.min() >= -1 and pictures.max() <= 1
    assert torch.equal(pictures, again) and torch.equal(labels, same_labels)
    assert not torch.equal(compose(sprites, 8, torch.Generator().manual_seed(4))[0], pictures)


@pytest.mark.slow
def test_a_few_steps_teach_a_few_names(sprites: Sprites, tmp_path: Path) -> None:
    classifier = Training(CODES, steps=40, seed=1, state_file=tmp_path / "state").run(sprites, batch_size=24)
    pictures, labels = compose(sprites, 48, torch.Generator().manual_seed(99))
    with torch.no_grad():
        accuracy = (classifier(pictures).argmax(1) == labels).float().mean().item()
    assert accuracy > 0.6  # 1 in 6 by chance

    # The same through its file, and pictures of another side.
    write_classifier(classifier, tmp_path / "classifier.safetensors", {"seed": "1"})
    loaded = load_classifier(tmp_path / "classifier.safetensors")
    assert loaded.codes == tuple(CODES)
    large = pictures.repeat_interleave(2, 2).repeat_interleave(2, 3)
    as_bytes = [np.asarray(((one.permute(1, 2, 0) + 1) * 127.5).round().byte()) for one in large]
    right = [said == CODES[label] for said, label in zip(loaded.recognise(as_bytes), labels.tolist(), strict=True)]
    assert np.mean(right) == pytest.approx(accuracy, abs=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("style", ["twemoji", pytest.param("noto", marks=[pytest.mark.ops])])
def test_the_one_in_the_package_knows_all_names(style: Style, request: pytest.FixtureRequest) -> None:
    if style == "noto":
        request.getfixturevalue("noto")
    classifier, renderer = load_classifier(), Renderer((style,))
    names = drawn_names(renderer, emoji_names())
    pictures, codes = pictures_of_names(renderer, names, EVALUATION_SEED, classifier.side_px)
    right = [said == code for said, code in zip(classifier.recognise(pictures), codes, strict=True)]
    assert np.mean(right) > 0.95 and len(right) > 800


@pytest.mark.slow
def test_a_stopped_training_goes_on_to_the_same_weights(
    sprites: Sprites, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.evaluation.emoji.classifier._REPORT_EVERY", 2)  # and saved
    whole = Training(CODES, steps=6, seed=1, state_file=tmp_path / "a").run(sprites, batch_size=4)

    class Killed(Exception):
        pass

    first = Training(CODES, steps=6, seed=1, state_file=tmp_path / "b")
    learn, steps = first._learn, iter(range(5))

    def learn_five(pictures: torch.Tensor, labels: torch.Tensor) -> tuple[float, int]:
        if next(steps, None) is None:
            raise Killed
        return learn(pictures, labels)

    monkeypatch.setattr(first, "_learn", learn_five)
    with pytest.raises(Killed):
        first.run(sprites, batch_size=4)
    second = Training(CODES, steps=6, seed=1, state_file=tmp_path / "b")
    second.resume()
    assert second.step == 4
    resumed = second.run(sprites, batch_size=4)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor), name
    assert not (tmp_path / "b").exists()


def test_a_file_that_is_no_classifier_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="train-classifier"):
        load_classifier(tmp_path / "absent.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    with pytest.raises(EvaluationError, match="no usable classifier"):
        load_classifier(tmp_path / "broken.safetensors")


@pytest.mark.usefixtures("without_noto")
def test_it_is_not_trained_on_a_part_of_the_drawings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train-classifier", "--steps", "1", "--output", str(tmp_path / "classifier.safetensors")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "install Debian's fonts-noto-color-emoji" in line and not list(tmp_path.iterdir())


def test_the_network_is_as_small_as_it_is_said_to_be() -> None:
    classifier = Classifier([f"{number:x}" for number in range(829)])
    assert 400_000 < sum(parameter.numel() for parameter in classifier.parameters()) <= 600_000
