"""Captions painted in several runs, and measured."""

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from PIL import Image

from models.evaluation.cli import main
from models.evaluation.image_quality.inception import WEIGHTS_FILE
from service.core.settings import Settings
from service.http.schemas.paint import PaintRequest
from tests.models.evaluation.image_quality.pictures import write_captions, write_pictures


def evaluate(folder: Path, *more: str) -> int:
    return main(["pictures", "--captions", str(write_captions(folder)), "--painted", str(folder / "painted"), *more])


@pytest.mark.slow
def test_a_checkpoint_is_painted_with_and_measured(
    paint_checkpoint: Path, extractor_file: Path, clip_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    real = write_pictures(tmp_path / "real", 8, seed=1)
    paint = ["--checkpoint", str(paint_checkpoint), "--num-inference-steps", "2", "--paint-size-px", "32"]
    assert evaluate(tmp_path, *paint, "--limit", "5") == 0
    files = sorted((tmp_path / "painted").glob("*.png"))
    assert [file.name for file in files] == [f"{i:06}.png" for i in range(5)]
    before = {file: file.read_bytes() for file in files}
    assert len(set(before.values())) == 5
    capsys.readouterr()

    files[3].unlink()
    measure = ["--real", str(real), "--extractor", str(extractor_file), "--clip", str(clip_folder), "--size-px", "24"]
    saved = ["--save-real-statistics", str(tmp_path / "stats" / "real.safetensors")]
    assert evaluate(tmp_path, *paint, *measure, *saved, "--json", "--output", str(tmp_path / "report.json")) == 0
    assert {file: file.read_bytes() for file in files} == before, "a picture is the same in whatever run it is painted"
    report = json.loads(capsys.readouterr().out)
    assert report == json.loads((tmp_path / "report.json").read_text())
    assert report["fid"] > 0
    assert report["captions"] == {"file": str(tmp_path / "captions.txt"), "count": 5, "painted": 5}
    assert report["real"] == {"source": str(real), "pictures": 8}
    painting = report["painting"]
    assert (painting["guidance_scale"], painting["num_inference_steps"], painting["size_px"]) == (7.5, 2, 32)
    assert (painting["untrained"], painting["rerank"], painting["sampler"][:4]) == (True, "off", "DDPM")

    measure[1] = saved[1]
    assert evaluate(tmp_path, *measure) == 0, "without anything to paint with, from the saved statistics"
    table = capsys.readouterr().out
    assert f"FID         {report['fid']:.2f}" in table
    assert "num_inference_steps 2, guidance_scale 7.5" in table
    assert f"CLIP score  {report['clip_score']:.2f}" in table


@pytest.mark.slow
def test_a_service_paints_and_refuses_single_captions(
    tmp_path: Path, clip_folder: Path, serve: Callable[[FastAPI], str], capsys: pytest.CaptureFixture[str]
) -> None:
    app = FastAPI()
    seeds: dict[str, int | None] = {}
    tries: list[str] = []

    @app.get("/v2/models/paint")
    async def model() -> dict[str, Any]:
        return {"name": "paint", "versions": ["viscpm-p"]}

    @app.post("/paint")
    async def paint(request: Request) -> Response:
        asked = PaintRequest.model_validate_json(await request.body(), context=Settings())
        tries.append(asked.prompt)
        if len(tries) == 1:
            return JSONResponse({"error": {"message": "full"}}, 503, {"Retry-After": "0"})
        if asked.prompt == "the dog":
            return JSONResponse({"error": {"message": "not this prompt"}}, 400)
        assert (asked.size, asked.candidates, asked.rerank) == ("64x64", 2, True)
        seeds[asked.prompt] = asked.seed
        png = io.BytesIO()
        Image.effect_noise((64, 64), 60).save(png, "PNG")
        return JSONResponse({"data": [{"b64_json": base64.b64encode(png.getvalue()).decode(), "seed": asked.seed}]})

    url = serve(app)
    flags = ["--url", url, "--paint-size-px", "64", "--rerank", "on", "--candidates", "2", "--seed", "10"]
    assert evaluate(tmp_path, *flags, "--clip", str(clip_folder), "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["captions"]["painted"] == 4
    assert report["failed"] == [f"caption 1: {url}/paint refused: 400 not this prompt"]
    assert seeds == {"a cat": 10, "a red house": 14, "dog on the cat": 16, "two cats": 18}
    assert report["painting"]["model"] == "viscpm-p"
    assert report["fid"] is None

    tries.clear()
    tries.append("")
    assert evaluate(tmp_path, *flags) == 0
    assert tries == ["", "the dog"], "only what has no picture is asked for again"


@pytest.mark.slow
def test_what_is_missing_is_said_before_anything_is_painted(
    tmp_path: Path, paint_checkpoint: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_pictures(tmp_path / "real", 2, seed=1)
    assert evaluate(tmp_path, "--checkpoint", str(paint_checkpoint), "--real", str(tmp_path / "real")) == 1
    assert WEIGHTS_FILE in capsys.readouterr().err
    assert not (tmp_path / "painted").exists()
    assert evaluate(tmp_path) == 1
    assert "nothing to do" in capsys.readouterr().err
    assert evaluate(tmp_path, "--url", "http://127.0.0.1:9") == 1
    assert "--url needs --paint-size-px" in capsys.readouterr().err
    assert evaluate(tmp_path, "--real", str(tmp_path / "nowhere")) == 1
    assert "neither a folder of real pictures" in capsys.readouterr().err
