"""Training Paint: what is trained, the loss, resumption, and that what is exported paints what was trained."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.checkpoints.companion_files import VOCABULARY_FILE
from models.checkpoints.loading import load_paint
from models.engines.paint.prompt import paint_tree
from models.engines.paint.samplers import make_scheduler
from models.networks.cpm_bee.packing import pack_paint
from models.networks.paint.config import SD21_BASE_SCHEDULER
from models.training.cli import main
from models.training.logs import STEPS_FILE, VALIDATION_FILE, read_rows
from models.training.paint.noise import draw_diffusion
from models.training.paint.samples import paint_samples
from models.training.paint.settings import PaintSettings
from models.training.paint.start import NOISE, VELOCITY, PaintStart, paint_from_sizes
from models.training.paint.task import PaintTask, choose_trained, snr_weights
from models.training.task import Position
from tests.models.training.paint.pictures import CAPTIONS, SIDE_PX, Squares, write_pictures

POSITIONS = [Position(index=place, epoch=0, step=2, place=place) for place in range(4)]
CROSS_ATTENTION = {"to_q.weight", "to_k.weight", "to_v.weight", "to_out.0.weight", "to_out.0.bias"}
SCALING_FACTOR = 0.7


def make_task(start: PaintStart, settings: PaintSettings | None = None, pictures: Path | None = None) -> PaintTask:
    return PaintTask(start, Squares(), Squares(), 4, settings or PaintSettings(train="all"), pictures)


@pytest.mark.slow
def test_training_begins_with_predictions_of_nothing(files: dict[str, Path]) -> None:
    start = paint_from_sizes(files["sizes"], files["vocabulary"], files["vae"], seed=0)
    task = make_task(start)
    batch = task.collate(POSITIONS)
    with torch.no_grad():
        losses = task.losses(batch)
    torch.testing.assert_close(losses, batch.draws.noise.square().mean(dim=(1, 2, 3)))


@pytest.mark.slow
def test_what_is_trained_is_what_was_asked_for(start: PaintStart) -> None:
    def trained() -> set[str]:
        return {name for name, parameter in start.model.named_parameters() if parameter.requires_grad}

    adapter = {"prompt_adapter.linear.weight", "prompt_adapter.norm.weight", "prompt_adapter.norm.bias"}
    choose_trained(start.model, "adapter")
    assert trained() == adapter
    choose_trained(start.model, "bridge")
    blocks = {name.partition("attn2.")[0] for name in trained() - adapter}
    assert len(blocks) == 4  # one going down, one in the middle, two going up
    assert trained() - adapter == {f"{block}attn2.{leaf}" for block in blocks for leaf in CROSS_ATTENTION}
    assert all(block.startswith("unet.") for block in blocks)
    choose_trained(start.model, "all")
    assert trained() == set(start.model.state_dict())


@pytest.mark.slow
def test_the_language_model_has_a_rate_of_its_own_and_only_where_it_is_trained(start: PaintStart) -> None:
    groups = make_task(start, PaintSettings(train="all", lr=1e-3, llm_lr=1e-2, embedding_lr=0.1)).parameter_groups()
    rates = [(group["name"], group["lr"], len(group["params"])) for group in groups]
    num_llm = len(list(start.model.llm.parameters())) - 1
    assert rates[1:] == [("llm", 1e-2, num_llm), ("embedding", 0.1, 1)] and rates[0][:2] == ("painting", 1e-3)
    assert groups[2]["params"] == [start.model.llm.embedding.weight]
    groups = make_task(start, PaintSettings(train="bridge")).parameter_groups()
    assert [group["name"] for group in groups] == ["painting"]


@pytest.mark.slow
@pytest.mark.parametrize(("prediction", "cache_latents"), [(NOISE, False), (NOISE, True), (VELOCITY, False)])
def test_loss_is_the_mean_squared_error_to_noise_or_velocity(
    start: PaintStart, prediction: str, cache_latents: bool
) -> None:
    start = replace(start, scheduler_config={**start.scheduler_config, "prediction_type": prediction})
    task = make_task(start, PaintSettings(train="all", empty_share=0.5, cache_latents=cache_latents))
    batch = task.collate(POSITIONS)
    draws = batch.draws
    with torch.no_grad():
        task.loss(batch)
        loss, weight = task.loss(batch)  # the second time from the cache, where there is one
        posterior = start.vae.encode(batch.pixels.permute(0, 3, 1, 2) / 127.5 - 1).latent_dist
        latents = SCALING_FACTOR * (posterior.mean + posterior.std * draws.latent_noise)
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
        kept = torch.cumprod(1 - betas, dim=0)[draws.timesteps].view(-1, 1, 1, 1)
        noisy = kept.sqrt() * latents + (1 - kept).sqrt() * draws.noise
        by_hand = torch.zeros(())
        for row, place in enumerate(POSITIONS):  # alone, so without padding and masks
            caption = Squares().picture(place.index, 0).caption
            predicted = predict_as_in_painting(start, noisy[row], draws.timesteps[row], caption)
            chosen = predicted[0 if draws.without_caption[row] else 1]
            velocity = kept[row].sqrt() * draws.noise[row] - (1 - kept[row]).sqrt() * latents[row]
            by_hand += (chosen - (velocity if prediction == VELOCITY else draws.noise[row])).square().mean()
    assert len(set(draws.without_caption)) == 2
    assert weight == len(POSITIONS)
    assert float(loss) == pytest.approx(float(by_hand), rel=1e-5)


def predict_as_in_painting(start: PaintStart, latents: Tensor, timestep: Tensor, caption: str) -> Tensor:
    """The UNet on guidance's pair: the empty text, padded to the caption, and the caption (2, C, h, w)."""
    trees = [paint_tree(""), paint_tree(caption.replace("<", "<<"))]
    states = start.model.encode_prompts(pack_paint(trees, start.tokenizer))
    predicted: Tensor = start.model.unet(torch.stack([latents, latents]), timestep, states).sample
    return predicted


def test_min_snr_weighting() -> None:
    schedule = make_scheduler(SD21_BASE_SCHEDULER, 0)
    timesteps = torch.tensor([0, 300, 999])
    snr = schedule.alphas_cumprod[timesteps] / (1 - schedule.alphas_cumprod[timesteps])
    assert snr[0] > 5 > snr[2]
    expected = torch.where(snr > 5, 5 / snr, torch.ones(3))
    torch.testing.assert_close(snr_weights(schedule, timesteps, 5.0), expected, rtol=1e-3, atol=1e-6)
    assert torch.equal(snr_weights(schedule, timesteps, 0.0), torch.ones(3))
    # The same weight of the error in the latents: a velocity's is SNR + 1 times that, the noise's SNR times
    velocity = make_scheduler({**SD21_BASE_SCHEDULER, "prediction_type": VELOCITY}, 0)
    expected = torch.minimum(snr, torch.tensor(5.0)) / (snr + 1)
    torch.testing.assert_close(snr_weights(velocity, timesteps, 5.0), expected, rtol=1e-3, atol=1e-6)


@pytest.mark.whole_run
def test_a_resumed_run_exports_what_an_undisturbed_one_does(files: dict[str, Path], tmp_path: Path) -> None:
    data = write_pictures(tmp_path / "pictures")

    def run(output: Path, steps: int) -> None:
        begin = ["--init", str(files["sizes"]), "--vocabulary", str(files["vocabulary"]), "--vae", str(files["vae"])]
        flags = ["--output", str(output), "--steps", str(steps), "--batch-size", "2", "--resume", "--log-every", "1"]
        rates = ["--train", "all", "--lr", "1e-3", "--llm-lr", "1e-2", "--cache-latents", "--ema-decay", "0.5"]
        more = ["--num-validation", "2", "--save-every", "2", "--validate-every", "4"]
        assert main(["paint", *begin, *data, *flags, *rates, *more]) == 0

    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    run(whole, 4)
    run(resumed, 2)
    run(resumed, 4)
    for row, other in zip(read_rows(whole / STEPS_FILE), read_rows(resumed / STEPS_FILE), strict=True):
        assert float(row["loss"]) == pytest.approx(float(other["loss"]), abs=1e-6)
    assert float(read_rows(whole / VALIDATION_FILE)[0]["loss"]) > 0
    assert (whole / "samples.png").is_file()
    one, other_model = (load_paint(output / "export").model.state_dict() for output in (whole, resumed))
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other_model[name], rtol=0, atol=1e-6, msg=name)


@pytest.mark.slow
def test_what_is_exported_in_half_precision_paints_what_was_trained(start: PaintStart, tmp_path: Path) -> None:
    settings = PaintSettings(train="all", export_dtype=torch.float16)
    task = make_task(start, settings)
    (averaged,) = task.stateful()
    task.export(tmp_path, start.model.state_dict())
    loaded = load_paint(tmp_path)
    assert {tensor.dtype for tensor in loaded.model.state_dict().values()} == {torch.float16}
    assert not loaded.untrained
    assert loaded.vae.config.scaling_factor == SCALING_FACTOR
    assert (tmp_path / VOCABULARY_FILE).read_bytes() == start.vocabulary.read_bytes()

    loaded = load_paint(tmp_path, dtype=torch.float32)
    pictures = []
    for model, vae in ((start.model, start.vae), (loaded.model, loaded.vae)):
        scheduler = make_scheduler(loaded.scheduler_config, steps_offset=0)
        with torch.no_grad():
            pictures.append(
                paint_samples(model, vae, scheduler, start.tokenizer, CAPTIONS[:2], SIDE_PX, 10, guidance_scale=2.0)
            )
    difference = (pictures[0].float() - pictures[1].float()).abs()
    assert pictures[0].shape == (2, SIDE_PX, SIDE_PX, 3)
    assert difference.mean() < 1.0  # of 255
    assert averaged.state_dict()["shadow_params"]


@pytest.mark.slow
def test_the_average_is_what_is_exported_and_validated(start: PaintStart, tmp_path: Path) -> None:
    task = make_task(start, PaintSettings(train="bridge", ema_decay=0.5))
    task.stateful()
    before = {name: tensor.clone() for name, tensor in start.model.state_dict().items()}
    with torch.no_grad():
        validated = task.validate()["loss"]
        start.model.prompt_adapter.linear.weight.add_(1.0)
        assert task.validate()["loss"] == pytest.approx(validated, rel=1e-6)
    task.export(tmp_path, start.model.state_dict())
    exported = load_paint(tmp_path, dtype=torch.float32).model.state_dict()
    name = "prompt_adapter.linear.weight"
    torch.testing.assert_close(exported[name], before[name])
    task.after_step()  # the first steps count in full
    task.export(tmp_path, start.model.state_dict())
    exported = load_paint(tmp_path, dtype=torch.float32).model.state_dict()
    torch.testing.assert_close(exported[name], before[name] + 1)


@pytest.mark.slow
def test_a_checkpoint_is_trained_on_with_its_language_model_frozen(
    start: PaintStart, files: dict[str, Path], tmp_path: Path
) -> None:
    data = write_pictures(tmp_path / "pictures")
    first = tmp_path / "checkpoint"
    first.mkdir()
    make_task(start, PaintSettings(llm_export_dtype=torch.float32)).export(first, start.model.state_dict())
    flags = ["--checkpoint", str(first), "--output", str(tmp_path / "run"), "--steps", "2", "--lr", "1e-2"]
    assert main(["paint", *flags, *data, "--num-validation", "2", "--warmup-steps", "1", "--ema-decay", "0"]) == 0
    before = load_paint(first, dtype=torch.float32).model.state_dict()
    after = load_paint(tmp_path / "run" / "export", dtype=torch.float32).model.state_dict()
    for name in before:
        moved = not torch.allclose(before[name], after[name], atol=1e-4, rtol=1e-3)
        assert moved == (name.startswith("prompt_adapter.") or ".attn2." in name), name


def test_draws_for_validation_are_fixed() -> None:
    draws = [draw_diffusion(POSITIONS, 500_009, (4, 4, 4), 1000, 0.0) for _ in range(2)]
    assert torch.equal(draws[0].noise, draws[1].noise)
