"""A run's files: rows by step, columns that come later, and what a killed run left behind."""

import logging
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from models.training.logs import STEPS_FILE, TENSORBOARD_FOLDER, VALIDATION_FILE, RunLog, read_rows


def write(folder: Path, *steps: int, done: int = 0, **values: float) -> None:
    with RunLog(folder, done) as log:
        for step in steps:
            log.steps(step, {"loss": 1 / step, **values})


def steps(folder: Path) -> list[int]:
    return [int(row["step"]) for row in read_rows(folder / STEPS_FILE)]


def test_values_are_rows_with_nine_digits(tmp_path: Path) -> None:
    write(tmp_path / "deep" / "run", 1, 3, epoch=0.1)
    assert read_rows(tmp_path / "deep" / "run" / STEPS_FILE) == [
        {"step": "1", "loss": "1", "epoch": "0.1"},
        {"step": "3", "loss": "0.333333333", "epoch": "0.1"},
    ]
    assert read_rows(tmp_path / "deep" / "run" / VALIDATION_FILE) == []


def test_validations_have_a_file_of_their_own_and_a_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with RunLog(tmp_path, 0) as log, caplog.at_level(logging.INFO):
        log.validation(20, {"loss": 0.25, "exact_name_en": 2 / 3})
    assert read_rows(tmp_path / VALIDATION_FILE) == [{"step": "20", "loss": "0.25", "exact_name_en": "0.666666667"}]
    assert caplog.messages == ["step 20, validation: loss 0.25, exact_name_en 0.6667"]
    assert steps(tmp_path) == []


def test_a_value_that_comes_later_gets_a_column_and_earlier_rows_a_gap(tmp_path: Path) -> None:
    write(tmp_path, 1)
    write(tmp_path, 2, done=1, gradient_norm=5.0)
    write(tmp_path, 3, done=2)
    assert read_rows(tmp_path / STEPS_FILE) == [
        {"step": "1", "loss": "1", "gradient_norm": ""},
        {"step": "2", "loss": "0.5", "gradient_norm": "5"},
        {"step": "3", "loss": "0.333333333", "gradient_norm": ""},
    ]


def test_rows_beyond_what_a_run_resumes_from_go(tmp_path: Path) -> None:
    write(tmp_path, 1, 2, 3, 4)
    with RunLog(tmp_path, 4) as log:
        for step in (2, 4):
            log.validation(step, {"loss": 1.0})
    with RunLog(tmp_path, 3):
        assert steps(tmp_path) == [1, 2, 3]
        assert [row["step"] for row in read_rows(tmp_path / VALIDATION_FILE)] == ["2"]
    with RunLog(tmp_path, 0):
        assert steps(tmp_path) == [] and read_rows(tmp_path / VALIDATION_FILE) == []


def test_a_row_that_was_not_written_to_its_end_goes(tmp_path: Path) -> None:
    write(tmp_path, 1, 2)
    with (tmp_path / STEPS_FILE).open("a", encoding="utf-8", newline="") as file:
        file.write("3")  # killed before the comma
    with RunLog(tmp_path, 5) as log:
        assert steps(tmp_path) == [1, 2]
        log.steps(6, {"loss": 0.1})
    assert steps(tmp_path) == [1, 2, 6]
    assert not list(tmp_path.glob("*.partial"))


def test_tensorboard_forgets_what_came_after_too(tmp_path: Path) -> None:
    write(tmp_path, 1, 2, 3)
    write(tmp_path, 3, done=2, other=7.0)
    events = EventAccumulator(str(tmp_path / TENSORBOARD_FOLDER)).Reload()
    assert [event.step for event in events.Scalars("training/loss")] == [1, 2, 3]
    assert [event.value for event in events.Scalars("training/other")] == [7.0]


def test_rows_of_a_file_that_is_not_there_are_none(tmp_path: Path) -> None:
    assert read_rows(tmp_path / STEPS_FILE) == []
