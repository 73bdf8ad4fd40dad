"""FID and CLIP score on networks from local files, and thousands of captions painted in several runs."""

import base64
import io
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPModel, CLIPProcessor

from models.checkpoints.tiny import write_tiny_checkpoints
from models.evaluation.cli import main
from models.evaluation.errors import EvaluationError
from models.evaluation.image_quality.caption_painting import Paintings, PaintSettings, paint_locally, read_captions
from models.evaluation.image_quality.clip_model import load_clip
from models.evaluation.image_quality.feature_extractor import load_extractor
from models.evaluation.image_quality.inception import WEIGHTS_FILE, Inception
from models.evaluation.image_quality.metrics import ClipScore, FrechetDistance, measure_painted, measure_real
from models.evaluation.picture_files import read_picture, square, to_tensor
from models.jobs import Engine, Job, JobRejected
from service.http.schemas import PaintRequest
from service.core.settings import Settings
from tests.models.clip import write_tiny_clip

CPU = torch.device("cpu")
CAPTIONS = ["a cat", "the dog", "a red house", "dog on the cat", "two cats"]


class TinyFeatures(nn.Module):
    """Six features of a small random convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, stride=2)
        self.second = nn.Conv2d(8, 6, 3, stride=2)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.second(torch.relu(self.first(pixels.float() / 8))).mean((2, 3))


class WithFlag(TinyFeatures):
    """Gives features only if asked to, as StyleGAN's file does."""

    def forward(self, pixels: Tensor, return_features: bool = False) -> Tensor:
        features = self.second(torch.relu(self.first(pixels.float() / 8))).mean((2, 3))
        return features if return_features else features[:, :1]


def save_script(module: nn.Module, file: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(module).save(file)
    return file


@pytest.fixture(scope="module")
def network() -> TinyFeatures:
    torch.manual_seed(3)
    return TinyFeatures().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def extractor_file(network: TinyFeatures, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_script(network, tmp_path_factory.mktemp("extractor") / "tiny.pt")


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random CLIP that reads at most 8 tokens."""
    folder = tmp_path_factory.mktemp("models") / "tiny-clip"
    write_tiny_clip(folder)
    return folder


@pytest.fixture(scope="module")
def paint_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints")
    write_tiny_checkpoints(folder, seed=0)
    return folder / "paint"


def write_pictures(folder: Path, count: int, seed: int, size: tuple[int, int] = (48, 32), tint: int = 0) -> Path:
    """Random pictures 000000.png and so on; `size` is (height, width)."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    for i in range(count):
        pixels = np.clip(rng.integers(0, 256 - tint, (*size, 3)) + tint * rng.random(3), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:06}.png")
    return folder


def write_captions(folder: Path, captions: list[str] = CAPTIONS) -> Path:
    file = folder / "captions.txt"
    file.write_text("\n".join(captions) + "\n", encoding="utf-8")
    return file


def root(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of a symmetric matrix without negative eigenvalues."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T


def frechet(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Straight from the definition, with a symmetric form of the product's root."""
    a, b = np.cov(first.T), np.cov(second.T)
    middle = root(root(a) @ b @ root(a))
    shift = first.mean(axis=0) - second.mean(axis=0)
    return float(shift @ shift + np.trace(a) + np.trace(b) - 2 * np.trace(middle))


def features(network: nn.Module, folder: Path, size_px: int) -> NDArray[np.float64]:
    pictures = [to_tensor(square(read_picture(file), size_px)) for file in sorted(folder.iterdir())]
    return network(torch.stack(pictures)).double().numpy()


def test_the_distance_is_the_formula_s(network: TinyFeatures, extractor_file: Path, tmp_path: Path) -> None:
    real = write_pictures(tmp_path / "real", 41, seed=1)
    painted = write_pictures(tmp_path / "painted", 30, seed=2, size=(24, 24), tint=60)
    expected = frechet(features(network, real, 24), features(network, painted, 24))

    distance = FrechetDistance(load_extractor(extractor_file, CPU, 24), 24, CPU)
    told: list[int] = []
    measure_real(distance, sorted(real.iterdir()), batch_size=16, num_workers=0, told=told.append)
    pictures = dict.fromkeys(sorted(painted.iterdir()), "")
    measure_painted(pictures, distance, None, 24, batch_size=7, num_workers=0, told=told.append)

    assert told == [16, 16, 9, 7, 7, 7, 7, 2]
    assert (distance.num_real, distance.num_painted) == (41, 30)
    assert distance.compute() == pytest.approx(expected, rel=1e-3)
    assert expected > 0.001


def test_saved_statistics_stand_for_the_real_pictures(extractor_file: Path, tmp_path: Path) -> None:
    real, painted = write_pictures(tmp_path / "real", 12, seed=1), write_pictures(tmp_path / "p", 12, seed=2, tint=50)
    extractor = load_extractor(extractor_file, CPU, 24)
    first = FrechetDistance(extractor, 24, CPU)
    measure_real(first, sorted(real.iterdir()), 5, 0, lambda count: None)
    first.save_real(tmp_path / "real.safetensors", "real")
    second = FrechetDistance(extractor, 24, CPU)
    assert second.load_real(tmp_path / "real.safetensors") == "real"
    for distance in (first, second):
        measure_painted(dict.fromkeys(sorted(painted.iterdir()), ""), distance, None, 24, 5, 0, lambda count: None)
    assert second.num_real == 12
    assert second.compute() == first.compute()

    with pytest.raises(EvaluationError, match="size_px 24, but size_px 32 is asked for"):
        FrechetDistance(extractor, 32, CPU).load_real(tmp_path / "real.safetensors")
    save_file({"mu": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(EvaluationError, match="no statistics"):
        second.load_real(tmp_path / "other.safetensors")
    with pytest.raises(EvaluationError, match="at least 2 pictures"):
        FrechetDistance(extractor, 24, CPU).compute()


def drawn_weights() -> dict[str, Tensor]:
    """Weights of the 2015 Inception that depend on nothing but numpy's generator."""
    rng, drawn = np.random.default_rng(0), {}
    for name, tensor in sorted(Inception().state_dict().items()):
        shape = tuple(tensor.shape)
        if name.endswith("num_batches_tracked"):
            continue
        if name.endswith("running_var"):
            values = rng.uniform(0.5, 1.5, shape)
        elif name.endswith("bn.weight"):
            values = rng.uniform(0.8, 1.2, shape)
        elif len(shape) == 4:
            values = rng.standard_normal(shape, dtype=np.float32) * np.sqrt(2 / np.prod(shape[1:]))
        else:
            values = 0.2 * rng.standard_normal(shape)
        drawn[name] = torch.tensor(values, dtype=torch.float16)
    return drawn


def test_inception_is_that_of_the_published_scores(tmp_path: Path) -> None:
    """The numbers were made by torch-fidelity 0.4.0 from the same weights and the same picture."""
    weights = drawn_weights()
    file = tmp_path / "inception.safetensors"
    save_file({**weights, "fc.bias": torch.zeros(1008)}, file)
    across, down = np.meshgrid(np.arange(64), np.arange(96))
    picture = np.stack([(across * 5) % 256, (down * 3 + across) % 256, (across * down) % 256]).astype(np.uint8)
    extractor = load_extractor(file, CPU, 64)
    found = extractor.module(torch.from_numpy(picture)[None])[0]
    assert (extractor.num_features, found.shape) == (2048, (2048,))
    expected = [0.3058, 0.0375, 2.5538, 0.046, 0.2734, 5.757, 3.7797, 0.8109]
    assert found[::256].tolist() == pytest.approx(expected, abs=2e-3)
    assert (found.mean().item(), found.std().item()) == pytest.approx((1.749072, 2.416624), abs=1e-4)

    torch.save({"conv.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(EvaluationError, match="470 tensors are missing and 1 unknown"):
        load_extractor(tmp_path / "other.pth", CPU, 64)


def test_extractor_files_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=f"{WEIGHTS_FILE}, to be had from https://github.com/toshas"):
        load_extractor(tmp_path / "absent.pth", CPU, 32)
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(EvaluationError, match="neither a file of tensors nor a TorchScript module"):
        load_extractor(tmp_path / "text.pth", CPU, 32)
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    with pytest.raises(EvaluationError, match="holds a list"):
        load_extractor(tmp_path / "list.pth", CPU, 32)
    with pytest.raises(EvaluationError, match=r"cannot take pictures \(2, 3, 32, 32\) of uint8: .*unsigned char"):
        load_extractor(save_script(nn.Conv2d(3, 2, 1), tmp_path / "float.pt"), CPU, 32)
    with pytest.raises(EvaluationError, match=r"features \(2, N\) are expected of two pictures, got \(2, 3, 32, 32\)"):
        load_extractor(save_script(nn.Identity(), tmp_path / "map.pt"), CPU, 32)


def test_a_script_is_asked_for_features_where_it_can_be(tmp_path: Path) -> None:
    torch.manual_seed(1)
    file = save_script(WithFlag(), tmp_path / "flag.pt")
    assert load_extractor(file, CPU, 32).num_features == 6


def test_the_clip_score_is_the_cosine(clip_folder: Path, tmp_path: Path) -> None:
    painted = sorted(write_pictures(tmp_path / "painted", 3, seed=5).iterdir())
    captions = ["a cat", "dog", "a"]
    score = ClipScore(load_clip(clip_folder, CPU), CPU)
    measure_painted(dict(zip(painted, captions, strict=True)), None, score, 32, 2, 0, lambda count: None)

    model, processor = CLIPModel.from_pretrained(clip_folder), CLIPProcessor.from_pretrained(clip_folder)
    with torch.inference_mode():
        inputs = processor(
            text=captions, images=[read_picture(file) for file in painted], return_tensors="pt", padding=True
        )
        output = model(**inputs)
        cosines = (output.image_embeds * output.text_embeds).sum(-1)
    assert score.compute() == pytest.approx(max(100 * cosines.mean().item(), 0), abs=1e-3)
    assert cosines.std() > 0.01, "pictures that score alike would show nothing"


def test_a_long_caption_is_cut_with_its_end_token(clip_folder: Path) -> None:
    clip, processor = load_clip(clip_folder, CPU)
    ids = processor(text=["a cat and a dog and a house"], return_tensors="pt", padding=True)["input_ids"]
    assert ids.shape == (1, 8)
    assert ids[0, -1] == clip.config.text_config.eos_token_id


def test_folders_without_a_clip_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"holds no config\.json; expected is a folder with all files of"):
        load_clip(tmp_path, CPU)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(EvaluationError, match="a bert model"):
        load_clip(tmp_path, CPU)


def evaluate(folder: Path, *more: str) -> int:
    return main(["pictures", "--captions", str(write_captions(folder)), "--painted", str(folder / "painted"), *more])


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
