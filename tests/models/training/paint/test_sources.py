"""Sources of captioned pictures: files, cut square and held out."""

from pathlib import Path

import pytest

from models.datasets.caption_file import CaptionFile
from models.training.paint.sources import picture_sources
from tests.models.training.paint.pictures import SIDE_PX, Squares, write_pictures


def test_pictures_of_a_file_are_cut_square_and_held_out(tmp_path: Path) -> None:
    write_pictures(tmp_path / "pictures", count=5)
    file = tmp_path / "pictures" / "captions.json"
    sources = picture_sources(str(file), tmp_path / "pictures", SIDE_PX // 2, seed=0, num_validation=2)
    assert (len(sources.training), len(sources.validation)) == (3, 2)
    example = sources.validation.picture(0, 0)
    assert example.pixels.shape == (SIDE_PX // 2, SIDE_PX // 2, 3)
    assert example.caption == Squares().picture(3, 0).caption


def test_files_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "captions.json"
    for text, message in (
        ('{"image": "a.png"}', "expected a list"),
        ("[]", "holds no pictures"),
        ('[{"image": "a.png", "caption": "x"}]', "missing, such as a.png"),
    ):
        file.write_text(text)
        with pytest.raises(ValueError, match=message):
            CaptionFile.read(file, tmp_path, SIDE_PX)
    with pytest.raises(ValueError, match="--images"):
        picture_sources(str(file), None, SIDE_PX, 0, 0)
