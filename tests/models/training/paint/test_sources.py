"""Sources of captioned pictures: files, cut square and held out."""

from pathlib import Path

import pytest

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


def test_a_file_needs_the_folder_of_its_pictures_and_some_to_learn_from(tmp_path: Path) -> None:
    file = tmp_path / "pictures" / "captions.json"
    write_pictures(tmp_path / "pictures", count=3)
    with pytest.raises(ValueError, match="--images"):
        picture_sources(str(file), None, SIDE_PX, 0, 0)
    with pytest.raises(ValueError, match="3 pictures, of which 3 are to be validated on"):
        picture_sources(str(file), file.parent, SIDE_PX, 0, num_validation=3)
