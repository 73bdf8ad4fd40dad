"""LLaVA's layout: what is read, refused, left out."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models.datasets.examples import Round
from models.datasets.llava import LlavaConversations, read_conversations
from tests.models.training_files import Data, turns


def written(folder: Path, records: Any) -> Path:
    file = folder / "conversations.json"
    file.write_text(json.dumps(records), encoding="utf-8")
    return file


def read(file: Path, images: Path | None, is_augmented: bool = False) -> LlavaConversations:
    return LlavaConversations.read(file, images, 32, seed=1, is_augmented=is_augmented, min_side_px=32)


def test_all_rounds_are_read_and_the_mark_goes_from_the_first_question_alone(tmp_path: Path) -> None:
    asked = turns(("<image>\nWhat is it?", "A <b> tag."), ("Is <image> a word?", "Yes."))
    asked[0] |= {"kind": "name", "language": "en"}
    (conversation,) = read_conversations(written(tmp_path, [{"id": 1, "image": "a.jpg", "conversations": asked}]))
    assert conversation.image == "a.jpg"
    assert conversation.rounds == (
        Round("What is it?", "A <b> tag.", "name", "en"),
        Round("Is <image> a word?", "Yes."),
    )


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
        list(read_conversations(written(tmp_path, records)))


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
    plain, changed = read(data.conversations, data.images), read(data.conversations, data.images, is_augmented=True)
    with Image.open(data.images / "2.png") as picture:
        expected = np.asarray(picture.resize((32, 32), Image.Resampling.BICUBIC))
    assert np.array_equal(plain.conversation(2, 0).pixels, expected)  # type: ignore[arg-type]
    assert np.array_equal(changed.conversation(2, 3).pixels, changed.conversation(2, 3).pixels)  # type: ignore[arg-type]
    assert not np.array_equal(changed.conversation(2, 3).pixels, changed.conversation(2, 4).pixels)  # type: ignore[arg-type]
    assert np.array_equal(changed.unchanged().conversation(2, 3).pixels, expected)  # type: ignore[arg-type]
