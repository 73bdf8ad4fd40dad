"""The check of texts: passes on the reference's numbers, and names the one that is off."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.parity.text import CHECKS
from tests.models.parity.reference import REFERENCE, change_json, change_tensor, copy_reference, run_checks


def test_the_references_numbers_pass() -> None:
    report = run_checks(CHECKS, REFERENCE)
    assert report.failed == [] and len(report.passed) > 500 and report.noted == []


def add(*path: str | int, amount: int = 1) -> Callable[[Any], None]:
    """A change of one number of a JSON file."""

    def change(content: Any) -> None:
        for step in path[:-1]:
            content = content[step]
        content[path[-1]] += amount

    return change


@pytest.mark.parametrize(
    ("file", "change", "failed"),
    [
        ("tokenizer.json", add("max_word_len"), "tokenizer max_word_len"),
        ("tokenizer.json", add("special_tokens", "<unk>"), "tokenizer special_tokens"),
        ("tokenizer.json", add("ids", "bos"), "tokenizer ids"),
        ("data_to_id.json", add("chat", 0, "converted", "input_ids", 3), "data_to_id chat[0] input_ids"),
        ("data_to_id.json", add("chat", 1, "predict_segments", 0, 0), "data_to_id chat[1] predict_segments"),
        (
            "data_to_id.json",
            add("chat", 1, "converted", "image_bound", 0, 1),
            "data_to_id chat[1] converted image_bound",
        ),
        ("data_to_id.json", add("trees", 0, "converted", "num_segments"), "data_to_id trees[0] num_segments"),
        ("data_to_id.json", add("truncation", "full_length"), "data_to_id truncation full_length"),
        ("data_to_id.json", add("rel_bucket", 4, 2), "data_to_id rel_bucket[4]"),
        ("batch.json", add("lengths", 0), "batch lengths"),
        ("batch.json", add("padded_length"), "batch padded_length"),
        ("batch.json", add("model_input", "input_pos", 0, -1), "batch model_input input_pos"),
        ("batch.json", add("model_input", "segment_rel", 1, 2), "batch model_input segment_rel[1]"),
        ("batch.json", add("predict_segments", 1, 0, 0), "batch predict_segments"),
        ("paint_text.json", add(0, "cond", "input_ids", 1), "paint_text[0] cond input_ids"),
        ("paint_text.json", add(1, "uncond", "length", 0), "paint_text[1] uncond length"),
        ("paint_text.json", add(0, "uncond", "segment_rel", 1), "paint_text[0] uncond segment_rel"),
    ],
)
def test_one_number_that_is_off_fails_its_line(
    tmp_path: Path, file: str, change: Callable[[Any], object], failed: str
) -> None:
    folder = copy_reference(tmp_path / "wrong")
    change_json(folder / file, change)
    assert run_checks(CHECKS, folder, file).failed == [failed]


@pytest.mark.parametrize(
    "field", ["input_ids", "input_id_subs", "input_pos", "context", "segment_ids", "num_segments", "sample_idx"]
)
def test_every_array_of_a_prompt_is_compared(tmp_path: Path, field: str) -> None:
    folder = copy_reference(tmp_path / "wrong")
    change_json(folder / "batch.json", add("model_input", field, 1, -1))
    assert run_checks(CHECKS, folder, "batch.json").failed == [f"batch model_input {field}"]


@pytest.mark.parametrize(
    "field", ["input_ids", "input_id_subs", "context", "segment_ids", "num_segments", "sample_ids", "span"]
)
def test_every_array_of_a_text_is_compared(tmp_path: Path, field: str) -> None:
    folder = copy_reference(tmp_path / "wrong")
    change_json(folder / "paint_text.json", add(1, "cond", field, 2))
    assert run_checks(CHECKS, folder, "paint_text.json").failed == [f"paint_text[1] cond {field}"]


@pytest.mark.parametrize("name", ["target", "input_ids", "length", "ext_table_ids", "ext_table_sub", "image_bound"])
def test_what_is_learnt_is_compared_whole(tmp_path: Path, name: str) -> None:
    folder = copy_reference(tmp_path / "wrong")
    change_tensor(folder / "forward.safetensors", name, 1)
    assert run_checks(CHECKS, folder, "forward.json").failed == [f"forward {name}"]


def test_a_batch_of_prompts_that_are_not_there_is_noted(tmp_path: Path) -> None:
    folder = copy_reference(tmp_path / "wrong")
    (folder / "data_to_id.json").unlink()
    report = run_checks(CHECKS, folder, "batch.json")
    assert (report.failed, report.passed, report.noted) == ([], [], ["batch model_input"])


def test_a_text_that_is_to_be_refused_and_is_accepted_fails(tmp_path: Path) -> None:
    folder = copy_reference(tmp_path / "wrong")
    change_json(folder / "data_to_id.json", lambda content: content["errors"][0].update(question="fine"))
    assert run_checks(CHECKS, folder, "data_to_id.json").failed == ["data_to_id errors[0]"]


def test_an_error_of_another_kind_breaks_the_check_off(tmp_path: Path) -> None:
    folder = copy_reference(tmp_path / "wrong")
    change_json(folder / "data_to_id.json", lambda content: content["errors"][0].update(error="KeyError"))
    with pytest.raises(ValueError, match="."):
        run_checks(CHECKS, folder, "data_to_id.json")
