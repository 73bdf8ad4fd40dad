"""How a checkpoint's training spelled its texts, as its configuration tells."""

import json
from pathlib import Path

import pytest

from models.checkpoints.bundled import bundled_checkpoint
from models.checkpoints.conversion import average, convert
from models.checkpoints.loading import load_chat, open_checkpoint
from models.checkpoints.tensor_files import CheckpointError
from models.checkpoints.training_text import LetterCase, TrainingText
from models.jobs import Model


def test_what_is_written_is_read() -> None:
    for text in (TrainingText(), TrainingText("lower"), TrainingText("sentence", simplified_chinese=True)):
        assert TrainingText.from_published(text.to_published()) == text
    assert TrainingText.from_published({}) == TrainingText("mixed", simplified_chinese=False)


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"letter_case": "LOWER"}, "'LOWER'; one of mixed, lower, sentence"), ({"simplified_chinese": "yes"}, "'yes'")],
)
def test_what_is_none_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainingText.from_published(fields)


@pytest.mark.parametrize(("kind", "letter_case"), [("chat", "sentence"), ("paint", "lower")])
def test_the_bundled_checkpoint_tells(kind: Model, letter_case: LetterCase) -> None:
    told = open_checkpoint(bundled_checkpoint(kind)).training_text
    assert told == TrainingText(letter_case, simplified_chinese=True)


@pytest.mark.slow
def test_a_checkpoint_that_tells_nothing_reads_texts_as_they_come(chat_file: Path, tmp_path: Path) -> None:
    assert load_chat(chat_file).training_text == TrainingText()
    convert(chat_file, tmp_path / "converted")
    assert "training_text" not in json.loads((tmp_path / "converted" / "config.json").read_text())


@pytest.mark.slow
def test_converting_and_averaging_keep_it(tmp_path: Path) -> None:
    bundled = bundled_checkpoint("paint")
    convert(bundled, tmp_path / "converted")
    average([bundled, bundled], tmp_path / "average")
    for name in ("converted", "average"):
        assert open_checkpoint(tmp_path / name).training_text == open_checkpoint(bundled).training_text


@pytest.mark.slow
@pytest.mark.parametrize("told", [{"letter_case": "small"}, "lower"])
def test_a_configuration_that_tells_nonsense_is_refused(told: object, chat_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "converted"
    convert(chat_file, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "training_text": told}))
    with pytest.raises(CheckpointError, match="training_text is of no use"):
        open_checkpoint(folder)
