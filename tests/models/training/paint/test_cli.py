"""`viscpm finetune paint` and `vae`: what their flags mean, and which do not go together."""

from pathlib import Path

import pytest
import torch

from models.training.cli import main
from models.training.paint.settings import PaintSettings, VAESettings
from models.training.paint.start import PaintStart
from models.training.paint.task import PaintTask
from models.training.paint.vae import random_vae
from tests.models.training.paint.pictures import SIDE_PX, VAE_SIZES, Squares, write_pictures
from tests.models.training.runs import begin

CLI = "models.training.paint.cli"
COUNT = 6


@pytest.fixture
def data(tmp_path: Path) -> list[str]:
    """Six pictures, of which two are held out."""
    return [*write_pictures(tmp_path / "pictures", COUNT), "--num-validation", "2"]


@pytest.fixture
def init(files: dict[str, Path]) -> list[str]:
    flags = {"--init": files["sizes"], "--vocabulary": files["vocabulary"], "--vae": files["vae"]}
    return [part for flag, file in flags.items() for part in (flag, str(file))]


@pytest.mark.slow
def test_paint_without_flags_trains_the_bridge_at_the_models_own_side(
    init: list[str], data: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = begin(monkeypatch.setattr, CLI, "paint", *init, *data, "--output", tmp_path / "run")
    expected = PaintSettings(lr=1e-5, llm_lr=1e-5, embedding_lr=1e-5, num_validation=2)
    assert begun.task.settings == expected
    assert begun.settings.identity == {"task": "paint", "train": expected.train}
    assert begun.task.num_examples() == COUNT - 2
    assert begun.task.source.picture(0, 0).pixels.shape == (SIDE_PX, SIDE_PX, 3)
    settings = begun.settings
    assert (settings.betas, settings.max_gradient_norm, settings.schedule.warmup_shape) == ((0.9, 0.999), 1.0, "linear")


@pytest.mark.slow
def test_flags_reach_the_paint_task(
    init: list[str], data: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = ["--lr", "1e-3", "--llm-lr", "1e-2", "--betas", "0.8", "0.9", "--warmup-shape", "log"]
    weighting = ["--train", "all", "--empty-share", "0.3", "--min-snr", "5", "--ema-decay", "0.5", "--cache-latents"]
    shown = ["--guidance-scale", "2", "--export-dtype", "float16", "--side-px", "16"]
    flags = [*rates, *weighting, *shown]
    begun = begin(monkeypatch.setattr, CLI, "paint", *init, *data, "--output", tmp_path / "run", *flags)
    assert begun.task.settings == PaintSettings(
        train="all",
        lr=1e-3,
        llm_lr=1e-2,
        embedding_lr=1e-2,
        empty_share=0.3,
        min_snr=5.0,
        ema_decay=0.5,
        cache_latents=True,
        num_validation=2,
        guidance_scale=2.0,
        export_dtype=torch.float16,
    )
    assert begun.settings.betas == (0.8, 0.9) and begun.settings.schedule.warmup_shape == "log"
    assert begun.settings.identity["train"] == "all"
    assert begun.task.source.picture(0, 0).pixels.shape == (16, 16, 3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "dtype"),
    [
        ([], torch.float32),
        (["--llm-dtype", "float16"], torch.float16),
        (["--llm-dtype", "float16", "--train", "all"], torch.float32),  # what is trained is float32
    ],
)
def test_a_frozen_language_model_may_be_small(
    start: PaintStart,
    data: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    flags: list[str],
    dtype: torch.dtype,
) -> None:
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    PaintTask(start, Squares(), Squares(), 0, PaintSettings(ema_decay=0)).export(checkpoint, start.model.state_dict())
    arguments = ["paint", "--checkpoint", checkpoint, *data, "--output", tmp_path / "run", *flags]
    model = begin(monkeypatch.setattr, CLI, *arguments).task.model
    assert model.llm.embedding.weight.dtype == dtype
    assert model.unet.conv_in.weight.dtype == torch.float32


@pytest.mark.slow
def test_a_vae_begins_with_its_own_or_random_weights(
    files: dict[str, Path], data: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["vae", "--vae", files["vae"], *data, "--output", tmp_path / "run"]
    begun = begin(monkeypatch.setattr, CLI, *arguments, "--kl-weight", "0.5", "--edge-weight", "0.25")
    assert begun.task.settings == VAESettings(edge_weight=0.25, kl_weight=0.5, num_validation=2)
    assert begun.settings.identity == {"task": "vae"}
    settings = begun.settings
    assert (settings.weight_decay, settings.max_gradient_norm, settings.schedule.warmup_shape) == (0.0, 1.0, "linear")
    stored = random_vae(VAE_SIZES, seed=1).state_dict()
    assert all(torch.equal(stored[name], tensor) for name, tensor in begun.task.model.state_dict().items())
    assert begun.task.source.picture(0, 0).pixels.shape[0] == SIDE_PX, "the side that it is made for"

    sizes = tmp_path / "vae.json"
    sizes.write_text(files["vae"].joinpath("config.json").read_text())
    begun = begin(monkeypatch.setattr, CLI, "vae", "--init", sizes, *data, "--output", tmp_path / "run", "--seed", 1)
    assert all(torch.equal(stored[name], tensor) for name, tensor in begun.task.model.state_dict().items())


def test_a_vae_of_no_sizes_is_the_bundled_checkpoints(
    data: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = begin(monkeypatch.setattr, CLI, "vae", *data, "--output", tmp_path / "run").task
    assert task.settings == VAESettings(num_validation=2)
    assert dict(task.model.config)["sample_size"] == task.source.picture(0, 0).pixels.shape[0]


@pytest.mark.slow
def test_a_curriculum_is_the_emojis(init: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = ["--data", "emoji", "--output", tmp_path, "--side-px", "32"]
    plain = begin(monkeypatch.setattr, CLI, "paint", *init, *flags).task
    graded = begin(monkeypatch.setattr, CLI, "paint", *init, *flags, "--curriculum", "2", "3").task
    captions = [{task.source.picture(index, 0).caption for index in range(60)} for task in (plain, graded)]
    assert captions[0] != captions[1]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["paint", "--data", "x", "--output", "y"], "one of the arguments --checkpoint --init is required"),
        (["paint", "--checkpoint", "a", "--data", "x", "--output", "y", "--train", "unet"], "invalid choice: 'unet'"),
        (["paint", "--checkpoint", "a", "--output", "y"], "--data"),
        (["paint", "--init", "a", "--data", "x", "--output", "y", "--curriculum", "1"], "expected 2 arguments"),
        (["vae", "--vae", "a", "--init", "b", "--data", "x", "--output", "y"], "not allowed with argument"),
        (["vae", "--data", "x"], "--output"),
    ],
)
def test_wrong_flags_are_2(capsys: pytest.CaptureFixture[str], flags: list[str], said: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(flags)
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.slow
def test_what_cannot_be_used_is_one_line(
    init: list[str], data: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*flags: str) -> str:
        assert main([*flags, "--output", str(tmp_path / "run")]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        return line.removeprefix("viscpm finetune: ")

    assert refused("paint", *init, *data[:2]) == "--data with a file needs --images, the folder of its pictures"
    assert refused("paint", *init[:4], *data) == "--init needs --vocabulary and --vae"
    assert "6 pictures, of which 64 are to be validated on" in refused("paint", *init, *data[:4])
    assert refused("vae", "--vae", str(tmp_path), *data).startswith(f"{tmp_path}: not a usable VAE (")
    assert refused("vae", "--init", str(tmp_path / "no.json"), *data).startswith(
        f"{tmp_path / 'no.json'}: not a readable"
    )


def test_flags_that_do_not_fit_are_refused(
    files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--data", "emoji", "--output", str(tmp_path), "--steps", "1"]
    assert main(["paint", "--init", str(files["sizes"]), *flags]) == 1
    assert "--vocabulary" in capsys.readouterr().err
