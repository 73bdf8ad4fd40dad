"""The whole evaluation on a random checkpoint: what it writes, and what it exits with."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from models.emoji.names import bundled_names
from models.evaluation.cli import main
from models.evaluation.emoji.classifier import Classifier, write_classifier
from models.evaluation.emoji.cli import choose_names
from tests.models.evaluation.emoji.checkpoint import write_emoji_checkpoint

NUM_NAMES = 4
LIMITS = ["--limit", str(NUM_NAMES), "--talks", "4", "--styles", "twemoji", "--skip-openmoji"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    write_emoji_checkpoint(folder, num_names=8)
    torch.manual_seed(0)
    codes = [name.code for name in choose_names(bundled_names(), NUM_NAMES)]
    write_classifier(Classifier(codes), folder / "classifier.safetensors", {})
    return folder


def of(checkpoint: Path) -> list[str]:
    return ["--chat", str(checkpoint / "chat"), "--paint", str(checkpoint / "paint")]


def evaluate(checkpoint: Path, *flags: str) -> int:
    return main(["emoji", *of(checkpoint), *LIMITS, *flags])


@pytest.fixture(scope="module")
def found(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The JSON of one whole run, and in `folder` where its plots are."""
    folder = tmp_path_factory.mktemp("run")
    flags = ["--classifier", str(checkpoint / "classifier.safetensors"), "--steps", "2"]
    file = folder / "results" / "run.json"  # a folder that is not there yet
    assert evaluate(checkpoint, *flags, "--json", str(file), "--plots", str(folder)) == 0
    return {**json.loads(file.read_text(encoding="utf-8")), "folder": folder}


@pytest.mark.slow
def test_the_json_says_what_was_measured_and_with_what(found: dict[str, Any]) -> None:
    assert (found["schema"], found["evaluation"]) == (1, "emoji")
    for kind in ("chat", "paint"):
        assert found["checkpoint"][kind]["untrained"] is True
        assert len(found["checkpoint"][kind]["fingerprint"]) >= 16
    assert found["settings"]["seed"] != 1
    assert found["settings"]["num_names"] == NUM_NAMES
    assert found["versions"]["torch"] and found["versions"]["python"]
    assert set(found["wall_s"]) == {"answers", "paintings"}
    cells = {(one["measure"], one["language"], one["style"], one["group"]) for one in found["scores"]}
    assert len(cells) == len(found["scores"])
    assert {("name", language, style, "") for language in ("en", "zh") for style in ("trained", "twemoji")} <= cells
    assert {("paint.chat", "zh", "painted", ""), ("paint.classifier", "en", "painted", "")} <= cells
    assert {("classifier", "", "trained", ""), ("follow_up", "en", "trained", "")} <= cells
    for one in found["scores"]:
        assert 0 <= one["correct"]["low"] <= one["correct"]["value"] <= one["correct"]["high"] <= 1
        assert one["count"] > 0


@pytest.mark.slow
def test_every_name_has_its_record_in_both_languages(found: dict[str, Any]) -> None:
    assert [record["code"] for record in found["names"]] == [
        name.code for name in choose_names(bundled_names(), NUM_NAMES)
    ]
    for record in found["names"]:
        assert {language: tally["asked"] for language, tally in record["trained"].items()} == {"en": 1, "zh": 1}
        assert set(record["painted"]) == {"en", "zh"}
    # Random weights know nothing: what they missed is listed.
    assert set(found["weak_names"]) == {record["code"] for record in found["names"]}
    assert found["num_misses"] >= 2 * NUM_NAMES
    assert all(miss["answer"] != miss["expected"] for miss in found["misses"])


def test_plots_are_pictures(found: dict[str, Any]) -> None:
    sizes = {}
    for file in found["folder"].glob("*.png"):
        with Image.open(file) as picture:
            picture.load()
            sizes[file.name] = picture.size
    assert set(sizes) == {
        "answers.png",
        "name_groups.png",
        "painting_groups.png",
        "paintings.png",
        "paintings_en.png",
        "paintings_zh.png",
    }
    assert sizes["paintings_en.png"] == (NUM_NAMES * 70, 70)


@pytest.mark.slow
def test_requirements_decide_the_exit_code(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(checkpoint, "--skip-painting", "--require", "name=0") == 0
    assert "required name 0.0 %" in capsys.readouterr().out
    assert evaluate(checkpoint, "--skip-painting", "--require", "name=0,name.zh=1", "--json", "-") == 1
    shown = capsys.readouterr()
    assert "MISSED" in shown.err
    assert [one["met"] for one in json.loads(shown.out)["requirements"]] == [True, False]
    assert evaluate(checkpoint, "--skip-painting", "--require", "paint.chat=0") == 1  # not measured is not met


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--styles", "openmoji"], "allowed are twemoji, noto"),
        (["--limit", "1"], "--limit is 1"),
        (["--steps", "0"], "--steps is 0"),
        (["--classifier", "absent"], "no usable classifier"),
        (["--chat", "absent"], "absent"),
        (["--paint", "absent"], "absent"),
    ],
)
def test_what_cannot_be_run_is_said_in_one_line(
    checkpoint: Path, capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    assert evaluate(checkpoint, *flags) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("viscpm evaluate emoji: ") and message in line


@pytest.mark.slow
def test_the_unseen_style_is_asked_about_apart(checkpoint: Path, tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    flags = ["--limit", "2", "--talks", "2", "--styles", "twemoji", "--skip-painting", "--json", str(file)]
    assert main(["emoji", *of(checkpoint), *flags]) == 0
    found = json.loads(file.read_text(encoding="utf-8"))
    counts = {
        (one["style"], one["language"]): one["count"]
        for one in found["scores"]
        if one["measure"] == "name" and not one["group"]
    }
    assert counts["openmoji", "en"] >= 2
    assert counts["trained", "en"] == counts["twemoji", "en"]
    assert all({"trained", "openmoji"} <= set(record) for record in found["names"])
