"""LLaVA's layout: what is read, refused, left out; pictures as they are and changed at random."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models.finetune.augment import OPERATIONS, augment, crop_box
from models.finetune.examples import Round
from models.finetune.llava import LlavaTalks, read_talks
from models.finetune.sources import DataSettings, conversation_sources
from tests.models.finetune.conftest import Data, turns


def written(folder: Path, records: Any) -> Path:
    file = folder / "talks.json"
    file.write_text(json.dumps(records), encoding="utf-8")
    return file


def read(file: Path, images: Path | None, is_augmented: bool = False) -> LlavaTalks:
    return LlavaTalks.read(file, images, 32, seed=1, is_augmented=is_augmented, min_side_px=32)


def test_all_rounds_are_read_and_the_mark_goes_from_the_first_question_alone(tmp_path: Path) -> None:
    asked = turns(("<image>\nWhat is it?", "A <b> tag."), ("Is <image> a word?", "Yes."))
    asked[0] |= {"kind": "name", "language": "en"}
    (talk,) = read_talks(written(tmp_path, [{"id": 1, "image": "a.jpg", "conversations": asked}]))
    assert talk.image == "a.jpg"
    assert talk.rounds == (Round("What is it?", "A <b> tag.", "name", "en"), Round("Is <image> a word?", "Yes."))


@pytest.mark.parametrize(
    ("records", "named"),
    [
        ([], "no records"),
        ({"a": 1}, "dict"),
        ([{"image": "a.jpg"}], "record 0"),
        ([{"conversations": []}], "record 0"),
        ([{"conversations": turns(("a", "b"))[:1]}], "1 turns"),
        ([{"conversations": turns(("a", "b"))[::-1]}], "from gpt and human"),
    ],
)
def test_another_layout_is_refused_by_what_is_wrong(tmp_path: Path, records: Any, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        list(read_talks(written(tmp_path, records)))


def test_absent_pictures_are_named_before_training(tmp_path: Path) -> None:
    file = written(tmp_path, [{"image": "a.jpg", "conversations": turns(("a", "b"))}])
    with pytest.raises(ValueError, match=r"lacks 1 pictures .* a\.jpg"):
        read(file, tmp_path)
    with pytest.raises(ValueError, match="--images"):
        read(file, None)


def test_small_and_broken_pictures_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Image.new("RGB", (31, 90)).save(tmp_path / "small.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    names = ("small.png", "broken.png", "")
    file = written(tmp_path, [{"image": name, "conversations": turns(("a", "b"))} for name in names])
    small, broken, plain = (read(file, tmp_path).conversation(index, 0) for index in range(3))
    assert small.rounds == broken.rounds == () and small.pixels is None and broken.pixels is None
    assert plain.pixels is None and len(plain.rounds) == 1
    assert "broken.png" in caplog.text


def test_pictures_are_resized_as_they_are_or_changed_by_seed_index_and_epoch(data: Data) -> None:
    plain, changed = read(data.talks, data.images), read(data.talks, data.images, is_augmented=True)
    with Image.open(data.images / "2.png") as picture:
        expected = np.asarray(picture.resize((32, 32), Image.Resampling.BICUBIC))
    assert np.array_equal(plain.conversation(2, 0).pixels, expected)  # type: ignore[arg-type]
    assert np.array_equal(changed.conversation(2, 3).pixels, changed.conversation(2, 3).pixels)  # type: ignore[arg-type]
    assert not np.array_equal(changed.conversation(2, 3).pixels, changed.conversation(2, 4).pixels)  # type: ignore[arg-type]
    assert np.array_equal(changed.unchanged().conversation(2, 3).pixels, expected)  # type: ignore[arg-type]


def test_crops_keep_half_the_area_or_more_within_the_picture() -> None:
    rng = np.random.default_rng(0)
    for width, height in ((300, 200), (40, 400)):
        for _ in range(50):
            left, top, right, bottom = crop_box(width, height, rng)
            assert 0 <= left < right <= width and 0 <= top < bottom <= height
    areas = [np.prod(np.subtract(*np.array(crop_box(100, 100, rng)).reshape(2, 2)[::-1])) for _ in range(200)]
    assert 4900 <= min(areas) < 6000 and 9000 < max(areas) <= 10_000


def test_each_operation_changes_a_picture_in_its_own_way() -> None:
    pixels = np.random.default_rng(1).integers(60, 200, (24, 24, 3)).astype(np.uint8)
    picture = Image.fromarray(pixels)
    changed = [np.asarray(operation(picture, np.random.default_rng(2))) for operation in OPERATIONS]
    assert np.array_equal(changed[0], pixels)
    assert len({array.tobytes() for array in changed}) == len(OPERATIONS)
    assert all(array.shape == (24, 24, 3) for array in changed)
    assert np.ptp(changed[1]) > 250 > np.ptp(pixels)  # autocontrast
    assert changed[3].mean() > pixels.mean()  # brightness
    assert augment(picture, 32, np.random.default_rng(3)).shape == (32, 32, 3)


def test_the_last_conversations_of_a_file_are_held_out(data: Data) -> None:
    settings = DataSettings(str(data.talks), data.images, min_side_px=32, num_validation=3)
    training, validation = conversation_sources(settings, 32)
    assert validation is not None and (len(training), len(validation)) == (9, 3)
    whole = read(data.talks, data.images)
    assert validation.conversation(0, 0).rounds == whole.conversation(9, 0).rounds
    with pytest.raises(ValueError, match="12 conversations, of which 12"):
        conversation_sources(DataSettings(str(data.talks), data.images, num_validation=12), 32)
