"""`viscpm paint`: files named by seeds, one of a name, and what is wrong in one line."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from service.process import cli
from tests.service.client.conftest import Running
from tests.service.painter import UNKNOWN, colour_of


def test_four_pictures_are_named_by_their_seeds(
    asked: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new"
    assert cli.main(["paint", f"{UNKNOWN} paint", "-o", str(out), "-n", "4", "--seed", "7"]) == 0
    told = capsys.readouterr()
    assert told.out.splitlines() == [f"{out}/{seed}.png (seed {seed})" for seed in (7, 8, 9, 10)]
    assert f"(the model knows no '{UNKNOWN}')" in told.err and "untrained" in told.err
    for seed in (7, 8, 9, 10):
        assert Image.open(out / f"{seed}.png").getpixel((3, 3)) == colour_of(seed)
    assert cli.main(["paint", "again", "-o", str(out), "--seed", "7"]) == 0
    assert (out / "7-2.png").exists(), "no picture takes another one's place"


def test_one_file_is_of_its_names_format(asked: Running, tmp_path: Path, told: Callable[..., Any]) -> None:
    answer = told("paint", "--seed", "7", "a house", "-o", str(tmp_path / "out.webp"), "--size", "32x32")
    assert answer["pictures"] == [{"file": str(tmp_path / "out.webp"), "seed": 7, "score": None}]
    assert (answer["model"], answer["size"], answer["untrained"]) == ("painter", "32x32", True)
    assert Image.open(io.BytesIO((tmp_path / "out.webp").read_bytes())).format == "WEBP"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["x", "-o", "out.txt"], 2, "must end in"),
        (["x", "-o", "out.png", "-n", "2"], 2, "is one file, and 2 pictures were asked for"),
        (["x", "-o", "none/out.png"], 1, "No such file or directory"),
        (["x", "--url", "http://127.0.0.1:9"], 4, "is `viscpm serve` running?"),
        (["x", "-n", "9"], 1, "400 invalid_request: n: "),
        (["x", "-n", "0"], 2, "'0' is no count"),
        ([UNKNOWN], 1, "unknown_words: prompt: none of it is known"),
    ],
)
def test_what_is_wrong_is_one_line(
    asked: Running,
    arguments: list[str],
    code: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        got = cli.main(["paint", *arguments])
    except SystemExit as end:
        got = int(end.code or 0)
    error = capsys.readouterr().err.replace("(untrained weights: the answer means nothing)\n", "")
    assert got == code and message in error and error.count("\n") == 1
    assert not list(tmp_path.rglob("*.png"))


def test_without_a_key_it_is_not_allowed(
    asked: Running, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VISCPM_API_KEY", "")
    assert cli.main(["paint", "x"]) == 5
    assert "401 invalid_api_key" in capsys.readouterr().err
