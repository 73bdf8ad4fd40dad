"""Training a VAE: its loss, its scaling factor, its resumption."""

import json
from pathlib import Path

import pytest
import torch

from models.checkpoints.companion_files import load_vae
from models.training.cli import main
from models.training.logs import STEPS_FILE, VALIDATION_FILE, read_rows
from models.training.paint.settings import VAESettings
from models.training.paint.vae import VAETask, measured_latent_std, random_vae, to_input
from models.training.task import Position
from tests.models.training.paint.pictures import VAE_SIZES, Squares, write_pictures

POSITIONS = [Position(index=place, epoch=0, step=0, place=place) for place in range(3)]


@pytest.fixture
def task() -> VAETask:
    settings = VAESettings(edge_weight=0.5, kl_weight=1e-3)
    return VAETask(random_vae(VAE_SIZES, seed=0), Squares(), Squares(), seed=4, settings=settings)


def test_loss_is_that_of_values_edges_and_divergence(task: VAETask) -> None:
    batch = task.collate(POSITIONS)
    with torch.no_grad():
        loss, weight = task.loss(batch)
        pictures = batch.pixels.permute(0, 3, 1, 2) / 127.5 - 1
        mean, log_variance = task.model.quant_conv(task.model.encoder(pictures)).chunk(2, dim=1)
        decoded = task.model.decode(mean + (log_variance / 2).exp() * batch.latent_noise).sample
        error = decoded - pictures
        across = (error[..., 1:] - error[..., :-1]).abs().mean(dim=(1, 2, 3))
        down = (error[..., 1:, :] - error[..., :-1, :]).abs().mean(dim=(1, 2, 3))
        divergence = (mean**2 + log_variance.exp() - 1 - log_variance).sum(dim=(1, 2, 3)) / 2
        by_hand = (error.abs().mean(dim=(1, 2, 3)) + 0.5 * (across + down) + 1e-3 * divergence).sum()
    assert weight == 3
    assert loss == pytest.approx(float(by_hand), rel=1e-5)


def test_random_weights_begin_with_little_noise_in_the_latents(task: VAETask) -> None:
    posterior = task.model.encode(to_input(task.collate(POSITIONS).pixels)).latent_dist
    assert posterior.std.max() < 0.06


@pytest.mark.slow
def test_export_has_the_scaling_factor_of_its_latents(task: VAETask, tmp_path: Path) -> None:
    weights = {name: tensor.detach().clone() for name, tensor in task.model.state_dict().items()}
    task.export(tmp_path, weights)
    exported = load_vae(tmp_path, torch.device("cpu"))
    assert exported.config.scaling_factor == pytest.approx(1 / measured_latent_std(task.model, Squares()), rel=1e-2)
    assert exported.config.latent_channels == VAE_SIZES["latent_channels"]
    pictures = to_input(task.collate(POSITIONS).pixels)
    with torch.no_grad():
        latents = exported.encode(pictures).latent_dist.sample() * exported.config.scaling_factor
        difference = exported(pictures).sample - task.model(pictures).sample
    assert 0.7 < latents.std() < 1.4
    assert difference.abs().max() < 0.05  # of half-precision weights


@pytest.mark.slow
def test_a_resumed_run_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    sizes = tmp_path / "vae.json"
    sizes.write_text(json.dumps(VAE_SIZES))
    data = write_pictures(tmp_path / "pictures")

    def run(output: Path, steps: int) -> None:
        flags = ["--output", str(output), "--steps", str(steps), "--batch-size", "2", "--resume", "--log-every", "1"]
        more = ["--num-validation", "2", "--save-every", "2", "--validate-every", "4", "--export-dtype", "float32"]
        assert main(["vae", "--init", str(sizes), *data, *flags, *more]) == 0

    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    run(whole, 4)
    run(resumed, 2)
    run(resumed, 4)
    names = (STEPS_FILE, VALIDATION_FILE)
    for row, other in zip(read_rows(whole / names[0]), read_rows(resumed / names[0]), strict=True):
        assert float(row["loss"]) == pytest.approx(float(other["loss"]), abs=1e-6)
    assert (whole / "reconstructions.png").is_file()
    assert {"psnr_db", "psnr_worst_db", "latent_std"} <= read_rows(whole / names[1])[0].keys()
    one, other_vae = (load_vae(output / "export", torch.device("cpu")) for output in (whole, resumed))
    assert one.config.scaling_factor == pytest.approx(other_vae.config.scaling_factor, rel=1e-6)
    for name, tensor in one.state_dict().items():
        torch.testing.assert_close(tensor, other_vae.state_dict()[name], rtol=0, atol=1e-6)
