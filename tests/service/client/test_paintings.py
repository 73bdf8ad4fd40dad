"""Paintings as people wait for them: previews and pictures on a terminal that shows them, scores where there are."""

import base64
import io
import sys
from pathlib import Path

import pytest
from PIL import Image

from service.client import paintings
from service.client.connection import Service
from service.client.events import begin
from service.client.picture_files import PictureFolder
from tests.service.client.conftest import Running


class Kitty(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_previews_and_pictures_are_shown(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = Kitty()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm-kitty")
    for name in ("TMUX", "STY", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    assert paintings.num_previews() == 2
    with Service(running.api.url, running.key) as service:
        body = {"prompt": "paint 6", "stream": True, "partial_images": 2, "seed": 7}
        pictures = paintings.follow_painting(service, begin(service, "/paint", body), "paint 6")
    assert terminal.getvalue().count("\x1b_G") == 2 and "6/6" in terminal.getvalue()
    paintings.tell_pictures(pictures, PictureFolder(str(tmp_path)), as_json=False)
    assert terminal.getvalue().count("\x1b_G") == 3
    assert capsys.readouterr().out == f"{tmp_path}/7.png (seed 7)\n"


def test_a_pipe_gets_no_previews(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert paintings.num_previews() == 0


def test_scores_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = io.BytesIO()
    Image.new("RGB", (8, 8)).save(target, "PNG")
    common = {"b64_json": base64.b64encode(target.getvalue()).decode(), "output_format": "png"}
    pictures = [{**common, "seed": 9, "score": 31.25}, {**common, "seed": 8, "score": 30.0, "unknown_words": ["🍎"]}]
    paintings.tell_pictures(pictures, PictureFolder(str(tmp_path)), as_json=False)
    told = capsys.readouterr().out.splitlines()
    assert told == [f"{tmp_path}/9.png (seed 9, score 31.25)", f"{tmp_path}/8.png (seed 8, score 30)"]
