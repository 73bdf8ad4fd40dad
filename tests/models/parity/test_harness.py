"""The parity command: what it lets pass and what it must not, on a folder made by the tokenizer itself."""

import json
import os
import shutil
from importlib import import_module
from pathlib import Path

import pytest

from models.networks.cpm_bee.tokenizer import Tokenizer, escape
from models.parity import harness
from models.parity.harness import MODULES, main

REFERENCE = Path(os.environ.get("VISCPM_PARITY_DIR", Path(__file__).parents[2] / "parity"))
ENTRIES = ["<pad>", "<unk>", "<s>", "</s>", "<root>", "<ans>", "<mask>", "</n>", "</_>", *"abc", "<"]


def table(strings: dict[int, str]) -> dict[str, str]:
    return {str(index): string for index, string in strings.items()}


def tokenizer_numbers(tokenizer: Tokenizer) -> dict[str, object]:
    """tokenizer.json as the reference lays it out, for a few texts."""
    rows = []
    for text in ("abc", "a é<mask>", "<<a<x>"):
        ids, strings = tokenizer.encode(text, {})
        row = {"text": text, "ids": ids, "ext_table": table(strings), "decoded": text, "escaped": escape(text)}
        row["pieces"] = [list(piece) for piece in tokenizer.pieces(text)]
        row |= {"decoded_without_ext_table_error": "KeyError"} if strings else {"decoded_without_ext_table": text}
        rows.append(row)
    return {
        "vocab_size": tokenizer.vocab_size,
        "special_tokens": tokenizer.special_ids,
        "max_word_len": tokenizer.max_piece_length,
        "ids": {"unk": 1, "bos": 2, "eos": 3, "mask": 6, "newline": 7, "space": 8},
        "encode": rows,
        "encode_chain": [{"text": "é", "ids": [13], "ext_table_after": {"13": "é"}}],
        "encode_errors": [{"text": "a<b", "error": "ValueError"}],
        "decode": [{"ids": [12, -1], "ext_table": None, "text": "<<"}],
        "decode_errors": [{"ids": [99], "error": "KeyError"}],
    }


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A trimmed folder: the tokenizer's two files, and a list that leaves everything else out."""
    monkeypatch.setattr(harness, "MODULES", ("text",))
    (tmp_path / "vocab.txt").write_text("\n".join(ENTRIES), encoding="utf-8")
    numbers = tokenizer_numbers(Tokenizer(tmp_path / "vocab.txt"))
    (tmp_path / "tokenizer.json").write_text(json.dumps(numbers), encoding="utf-8")
    (tmp_path / "files.json").write_text(json.dumps(["vocab.txt", "tokenizer.json"]))
    (tmp_path / "README.md").write_text("not numbers")
    return tmp_path


def run(folder: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, list[str]]:
    status = main([str(folder), *options])
    return status, capsys.readouterr().out.splitlines()


def failed(lines: list[str]) -> list[str]:
    return [line for line in lines if line.endswith("FAIL")]


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count(old) >= 1
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_a_right_folder_passes_and_says_what_was_left_out(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, lines = run(folder, capsys)
    assert status == 0 and not failed(lines)
    assert sum(line.endswith("pass") for line in lines) > 10
    assert any(line.startswith("data_to_id.json") and "left out" in line and line.endswith("noted") for line in lines)
    assert lines[-1].startswith(f"{len([x for x in lines if x.endswith('pass')])} quantities, 0 failed")


@pytest.mark.parametrize(
    ("old", "new", "quantity"),
    [
        ('"vocab_size": 13', '"vocab_size": 14', "tokenizer vocab_size"),
        ('"text": "abc", "ids": [9', '"text": "abc", "ids": [10', "tokenizer encode[0]"),
        ('"ids": [13], "ext_table_after"', '"ids": [14], "ext_table_after"', "tokenizer encode_chain[0]"),
        ('"text": "a<b", "error"', '"text": "ab", "error"', "tokenizer encode_errors[0]"),
        ('"ids": [99]', '"ids": [9]', "tokenizer decode_errors[0]"),
    ],
)
def test_a_changed_number_fails_by_name(
    folder: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, quantity: str
) -> None:
    change(folder / "tokenizer.json", old, new)
    status, lines = run(folder, capsys)
    assert status == 1
    assert any(line.startswith(quantity) for line in failed(lines))


def test_a_listed_file_that_is_missing_fails(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "tokenizer.json").unlink()
    status, lines = run(folder, capsys)
    assert status == 1
    assert [line.split()[:2] for line in failed(lines)] == [["tokenizer.json", "missing"]]


def test_without_a_list_every_known_file_has_to_be_there(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "files.json").unlink()
    status, lines = run(folder, capsys)
    assert status == 1
    missing = {line.split()[0] for line in failed(lines)}
    assert missing == {"data_to_id.json", "batch.json", "paint_text.json", "forward.json", "forward.safetensors"}


def test_an_unknown_file_fails(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "unet").mkdir()
    (folder / "unet" / "extra.safetensors").write_bytes(b"")
    status, lines = run(folder, capsys)
    assert status == 1
    assert [line.split()[:2] for line in failed(lines)] == [["unet/extra.safetensors", "unknown"]]


def test_a_picture_that_a_case_names_has_to_be_there(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "finetune.json").write_text('{"cases": [{"image": 7}, {"image": "<unk>"}]}')
    (folder / "files.json").write_text(
        json.dumps(["vocab.txt", "tokenizer.json", "finetune.json", "images/image7.png"])
    )
    status, lines = run(folder, capsys, "--skip", "finetune.json")
    assert status == 1
    assert [line.split()[0] for line in failed(lines)] == ["images/image7.png"]


def test_skipped_files_are_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "stray.txt").write_text("")
    change(folder / "tokenizer.json", '"vocab_size": 13', '"vocab_size": 14')
    status, lines = run(folder, capsys, "--skip", "stray.txt", "tokenizer.json")
    assert status == 0
    noted = {line.split()[0] for line in lines if line.endswith("noted")}
    assert {"stray.txt", "tokenizer.json"} <= noted


def test_a_broken_file_fails_its_check_and_not_the_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "tokenizer.json").write_text('{"encode": [')
    (folder / "stray.txt").write_text("")
    status, lines = run(folder, capsys)
    assert status == 1
    assert len(failed(lines)) == 2
    assert any("JSONDecodeError" in line for line in failed(lines))
    assert lines[-1].startswith("2 quantities, 2 failed")


def test_a_file_list_that_is_none_fails(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "files.json").write_text('{"files": 3}')
    status, lines = run(folder, capsys)
    assert status == 1
    assert any("has to be a list of file names" in line for line in failed(lines))


def test_a_folder_that_does_not_exist_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([str(tmp_path / "nowhere")])
    assert stopped.value.code == 2
    assert "nowhere is no folder" in capsys.readouterr().err


@pytest.mark.parametrize("part", MODULES)
def test_every_check_says_what_it_reads(part: str) -> None:
    module = import_module(f"models.parity.{part}")
    assert module.CHECKS and module.CHECKS.keys() == module.COVERS.keys()
    assert all(name in files for name, files in module.COVERS.items())


@pytest.mark.skipif(not (REFERENCE / "data_to_id.json").exists(), reason=f"reference data: none in {REFERENCE}")
def test_reference_text_passes_until_a_number_is_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness, "MODULES", ("text",))
    names = ["vocab.txt", "tokenizer.json", "data_to_id.json"]
    for name in names:
        shutil.copy(REFERENCE / name, tmp_path / name)
    (tmp_path / "files.json").write_text(json.dumps(names))
    # The prompts name no pictures here, so nothing else is asked for.
    assert run(tmp_path, capsys)[0] == 0

    numbers = json.loads((tmp_path / "data_to_id.json").read_text(encoding="utf-8"))
    numbers["chat"][0]["converted"]["segment_rel"][0][1] += 1
    (tmp_path / "data_to_id.json").write_text(json.dumps(numbers), encoding="utf-8")
    status, lines = run(tmp_path, capsys)
    assert status == 1
    assert [line.split()[:3] for line in failed(lines)] == [["data_to_id", "chat[0]", "segment_rel"]]
