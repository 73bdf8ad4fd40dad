"""The check of Paint: passes on the reference's numbers, and names what is off, from the text to the picture."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from models.engines.paint.decoding import decode_latents, to_bytes
from models.parity.fixtures import Fixtures
from models.parity.paint import CHECKS, encode, judge, load, start, text_job
from tests.models.parity.reference import REFERENCE, Recorded, change_json, change_tensor, copy_reference, run_checks

pytestmark = pytest.mark.whole_run

CPU = torch.device("cpu")
SAMPLING = "paint_timesteps_leading_offset1"
ONE_CASE = f"{SAMPLING} c1."


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_single_forwards_pass_in_every_precision(dtype: torch.dtype) -> None:
    names = ("paint_text.safetensors", "paint_unet.safetensors", "scheduler_tables.safetensors")
    report = run_checks(CHECKS, REFERENCE, *names, dtype=dtype)
    assert report.failed == [] and len(report.passed) >= 32
    has_means = any(name.endswith(" mean") for name in report.passed)
    assert has_means == (dtype != torch.float32)


def test_a_sampling_passes_with_all_that_is_told_of_it() -> None:
    report = run_checks(CHECKS, REFERENCE, f"{SAMPLING}.json")
    quantities = ["timesteps", "init_latents", "noise_draws", "step_noise", "latents"]
    statistics = ["image_mean", "image_std", "final_latent_abs_max"]
    assert report.failed == []
    assert report.passed == [ONE_CASE + name for name in quantities + statistics]


@pytest.mark.parametrize(
    ("file", "name", "failed"),
    [
        ("paint_text.safetensors", "p2.uncond_hidden", ["paint_text p2.uncond_hidden"]),
        ("paint_text.safetensors", "p0.cond_trans", ["paint_text p0.cond_trans", "paint_text p0.cond_trans folded"]),
        ("paint_unet.safetensors", "noise_pred_t501", ["paint_unet noise_pred_t501"]),
        ("paint_unet.safetensors", "vae_decoded", ["paint_unet vae_decoded"]),
        ("paint_unet.safetensors", "vae_encode_logvar", ["paint_unet vae_encode_logvar"]),
        ("scheduler_tables.safetensors", "betas", ["scheduler_tables betas"]),
    ],
)
def test_one_value_that_is_off_fails_its_lines(tmp_path: Path, file: str, name: str, failed: list[str]) -> None:
    folder = copy_reference(tmp_path / "wrong")
    change_tensor(folder / file, name)
    assert run_checks(CHECKS, folder, file).failed == failed


@pytest.mark.parametrize("name", ["init_latents", "step_noise", "latents"])
def test_one_value_of_a_sampling_that_is_off_fails_its_line(tmp_path: Path, name: str) -> None:
    folder = copy_reference(tmp_path / "wrong")
    change_tensor(folder / f"{SAMPLING}.safetensors", f"c1.{name}")
    assert run_checks(CHECKS, folder, f"{SAMPLING}.json").failed == [ONE_CASE + name]


@pytest.mark.parametrize(
    ("change", "failed"),
    [
        (lambda case: case["timesteps"].__setitem__(0, 875), "timesteps"),
        (lambda case: case.update(noise_draws=10), "noise_draws"),
        (lambda case: case.update(image_mean=case["image_mean"] + 0.01), "image_mean"),
        (lambda case: case.update(image_std=case["image_std"] + 0.01), "image_std"),
        (lambda case: case.update(final_latent_abs_max=1.001 * case["final_latent_abs_max"]), "final_latent_abs_max"),
    ],
)
def test_one_number_of_a_sampling_that_is_off_fails_its_line(
    tmp_path: Path, change: Callable[[Any], object], failed: str
) -> None:
    folder = copy_reference(tmp_path / "wrong")
    change_json(folder / f"{SAMPLING}.json", lambda content: change(content["cases"][0]))
    assert run_checks(CHECKS, folder, f"{SAMPLING}.json").failed == [ONE_CASE + failed]


def test_another_offset_is_another_sampling(tmp_path: Path) -> None:
    folder = copy_reference(tmp_path / "wrong")
    report = Recorded()
    fixtures = Fixtures(folder, CPU, torch.float32)
    for suffix in ("json", "safetensors"):
        (folder / f"paint_timesteps_leading_offset0.{suffix}").unlink()
        (folder / f"{SAMPLING}.{suffix}").rename(folder / f"paint_timesteps_leading_offset0.{suffix}")
    CHECKS["paint_timesteps_leading_offset0.json"](fixtures, report)
    name = "paint_timesteps_leading_offset0 c1."
    assert {f"{name}timesteps", f"{name}latents"} <= set(report.failed)


def test_a_stored_picture_is_painted_from_the_prompt_on(tmp_path: Path) -> None:
    folder = copy_reference(tmp_path / "pictures")
    fixtures = Fixtures(folder, CPU, torch.float32)
    (case,) = fixtures.json(f"{SAMPLING}.json")["cases"]
    loaded = load(fixtures)
    denoiser = start(fixtures, loaded, case, encode(fixtures, loaded, case), steps_offset=1)
    while not denoiser.is_done:
        denoiser.step()
    pictures = decode_latents(loaded.vae, denoiser.latents)
    file, png = folder / f"{SAMPLING}.safetensors", folder / "paint_case1_image0.png"
    tensors = {name: tensor.clone() for name, tensor in load_file(file).items()}
    file.unlink()
    save_file({**tensors, "c1.image": pictures.contiguous()}, file)
    Image.fromarray(to_bytes(pictures[0]).numpy()).save(png)
    report = run_checks(CHECKS, folder, f"{SAMPLING}.json")
    assert report.failed == []
    assert report.passed[-2:] == [f"{ONE_CASE}image from the prompt", "paint_case1_image0.png"]

    change_tensor(file, "c1.image")
    Image.open(png).point(lambda value: (value + 3) % 256).save(png)
    report = run_checks(CHECKS, folder, f"{SAMPLING}.json")
    assert report.failed == [f"{ONE_CASE}image from the prompt", "paint_case1_image0.png"]


def test_without_stored_texts_a_sampling_starts_from_its_prompt(tmp_path: Path) -> None:
    folder = copy_reference(tmp_path / "less")
    (folder / "paint_text.safetensors").unlink()
    assert run_checks(CHECKS, folder, f"{SAMPLING}.json").failed == []


def test_in_half_precision_a_sampling_is_only_reported(tmp_path: Path) -> None:
    """A difference feeds on itself from step to step, and the reference has no numbers for it."""
    report = run_checks(CHECKS, REFERENCE, f"{SAMPLING}.json", dtype=torch.bfloat16)
    assert report.noted == [f"{ONE_CASE}latents"]
    assert report.failed == [] and f"{ONE_CASE}timesteps" in report.passed
    assert f"{ONE_CASE}image_mean" not in report.passed


@pytest.mark.parametrize(("dtype", "judged"), [(torch.float32, True), (torch.float16, False)])
def test_a_difference_is_judged_in_full_precision_alone(dtype: torch.dtype, judged: bool) -> None:
    report, fixtures = Recorded(), Fixtures(REFERENCE, CPU, dtype)
    judge(fixtures, report, "x", torch.tensor([2.0]), torch.tensor([1.0]), limit=0.5)
    assert (report.failed, report.noted) == ((["x"], []) if judged else ([], ["x"]))


def test_texts_are_read_as_the_reference_reads_them() -> None:
    job = text_job({"prompt": "a <<b", "negative_prompt": None})
    assert (job.prompt, job.negative_prompt, job.raw_text) == ("a <<b", "", True)
    assert text_job({"prompt": "a", "negative_prompt": "b"}).negative_prompt == "b"
