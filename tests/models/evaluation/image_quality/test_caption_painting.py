"""Captions, and the folders of what is painted from them."""

from pathlib import Path
from typing import cast

import pytest

from models.evaluation.errors import EvaluationError
from models.evaluation.image_quality.caption_painting import Paintings, PaintSettings, paint_locally, read_captions
from models.jobs import Engine, Job, JobRejected
from tests.models.evaluation.image_quality.pictures import CAPTIONS, write_pictures


class Refusing:
    """An engine that takes no job."""

    capacity = 1

    def admit(self, job: Job) -> None:
        raise JobRejected("invalid_size", "height is 40 px, allowed are multiples of 32 px")


def test_settings_that_the_checkpoint_cannot_follow_stop_the_run(tmp_path: Path) -> None:
    settings = PaintSettings(7.5, 2, 40, "off", 1, 0)
    paintings = Paintings(tmp_path / "painted", CAPTIONS, {"size_px": 40})
    with pytest.raises(EvaluationError, match="caption 0: height is 40 px, allowed are multiples of 32 px"):
        paint_locally(paintings, paintings.missing(), settings, cast(Engine, Refusing()), lambda count: None)
    Paintings(tmp_path / "painted", CAPTIONS, {"size_px": 64})  # nothing was painted, so they may be corrected


def test_captions_are_read_by_line(tmp_path: Path) -> None:
    text = tmp_path / "a.txt"
    text.write_text("one\n 二 \nthree\n", encoding="utf-8")
    assert read_captions(text) == ["one", "二", "three"]
    assert read_captions(text, limit=2) == ["one", "二"]
    lines = tmp_path / "a.jsonl"
    lines.write_text('{"caption": "one", "image_id": 1}\n')
    assert read_captions(lines) == ["one"]
    text.write_text("one\n\nthree\n")
    with pytest.raises(EvaluationError, match="line 2: an empty caption"):
        read_captions(text)
    lines.write_text('{"text": "one"}\n')
    with pytest.raises(EvaluationError, match="line 1: caption must be text, got nothing"):
        read_captions(lines)


def test_a_folder_of_other_pictures_is_not_added_to(tmp_path: Path) -> None:
    write_pictures(tmp_path / "painted", 1, seed=0)
    with pytest.raises(EvaluationError, match=r"holds pictures but no painting\.json"):
        Paintings(tmp_path / "painted", CAPTIONS, {"model": "m"})
    paintings = Paintings(tmp_path / "new", CAPTIONS, {"model": "m"})
    paintings.add(2, b"png")
    assert paintings.missing() == [0, 1, 3, 4]
    assert (paintings.missing((1, 2)), paintings.missing((2, 2))) == ([0, 4], [1, 3])
    with pytest.raises(EvaluationError, match="captions_sha256"):
        Paintings(tmp_path / "new", [*CAPTIONS, "more"], {"model": "m"})
    with pytest.raises(EvaluationError, match="was begun with model 'm' and not 'n'; give another folder"):
        Paintings(tmp_path / "new", CAPTIONS, {"model": "n"})
