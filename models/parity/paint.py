"""Paint against the reference: texts, UNet, VAE, noise schedule, and whole samplings from prompt to picture.

Samplings start from the stored texts, because 50 guided steps magnify the rounding of one's own; cases with a stored
picture are run once more from the prompt on. The reference has no half-precision numbers of Paint: single forwards are
then held to wider limits against float32, and samplings, in which a difference feeds on itself, are only reported.
"""

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from models.checkpoints.loading import LoadedPaint, load_paint
from models.engines.paint.decoding import decode_latents, to_bytes
from models.engines.paint.denoise import Denoiser
from models.engines.paint.prompt import NEGATIVE_ROW, PROMPT_ROW, pack_job
from models.engines.paint.samplers import make_scheduler
from models.jobs import PaintJob
from models.networks.cpm_bee.folding import fold_scalings
from models.networks.cpm_bee.packing import PackedBatch
from models.parity.fixtures import Fixtures
from models.parity.report import Report

CHECKPOINTS = ("paint_checkpoint.safetensors", "paint_checkpoint.pt")  # the same values; either will do
HIDDEN_LIMIT = {torch.float32: 1e-3, torch.float16: 1e-1, torch.bfloat16: 1.0}
HIDDEN_MEAN_LIMIT = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 1e-1}
NOISE_LIMIT = {torch.float32: 1e-4, torch.float16: 3e-2, torch.bfloat16: 2.5e-1}
LATENT_LIMIT = 1e-4  # relative to the largest entry
IMAGE_LIMIT = 2e-3
DRAWN_LIMIT = 1e-5  # a generator's normal numbers differ in the last bits between instruction sets
PIXEL_LIMIT = 1  # of 255: a value on the edge between two bytes may fall either way
TABLE_LIMIT = 1e-6


def check_texts(fixtures: Fixtures, report: Report) -> None:
    """Hidden states, padding included, and their adapted form; the latter also with folded weights, as served."""
    loaded = load(fixtures)
    llm, expected = loaded.model.llm, fixtures.tensors("paint_text.safetensors")
    texts = [
        pack_job(text_job(fields), loaded.tokenizer).to(fixtures.device) for fields in fixtures.json("paint_text.json")
    ]

    def compare(suffix: str, encode: Callable[[PackedBatch], Tensor], note: str = "") -> None:
        for index, text in enumerate(texts):
            rows = encode(text)  # (2, L, width)
            for row, side in ((PROMPT_ROW, "cond"), (NEGATIVE_ROW, "uncond")):
                name = f"p{index}.{side}_{suffix}"
                label, stored = f"paint_text {name}{note}", expected[name]
                report.difference(label, rows[row], stored, HIDDEN_LIMIT[fixtures.dtype])
                if not fixtures.is_full_precision:
                    report.mean_difference(f"{label} mean", rows[row], stored, HIDDEN_MEAN_LIMIT[fixtures.dtype])

    with torch.inference_mode():
        compare("hidden", llm)
        compare("trans", loaded.model.encode_prompts)
        fold_scalings(llm)
        compare("trans", loaded.model.encode_prompts, " folded")


def check_networks(fixtures: Fixtures, report: Report) -> None:
    """The UNet's noise prediction at each stored timestep, and the VAE both ways."""
    loaded = load(fixtures)
    tensors = {name: tensor.to(fixtures.device) for name, tensor in fixtures.tensors("paint_unet.safetensors").items()}
    unet, vae = loaded.model.unet, loaded.vae
    latents, texts = tensors["latents"].to(unet.dtype), tensors["encoder_hidden_states"].to(unet.dtype)
    with torch.inference_mode():
        for name, expected in tensors.items():
            if timestep := re.fullmatch(r"noise_pred_t(\d+)", name):
                noise = unet(latents, int(timestep[1]), texts, return_dict=False)[0]
                report.difference(f"paint_unet {name}", noise, expected, NOISE_LIMIT[fixtures.dtype])
        decoded = vae.decode(tensors["vae_latents"] / vae.config.scaling_factor, return_dict=False)[0]
        report.difference("paint_unet vae_decoded", decoded, tensors["vae_decoded"], IMAGE_LIMIT)
        encoded = vae.encode(tensors["vae_encode_in"], return_dict=False)[0]
        for name, got in (("vae_encode_mean", encoded.mean), ("vae_encode_logvar", encoded.logvar)):
            report.difference(f"paint_unet {name}", got, tensors[name], LATENT_LIMIT, relative=True)


def check_schedule(fixtures: Fixtures, report: Report) -> None:
    """Betas and their cumulative products, as the sampler holds them."""
    scheduler = make_scheduler(fixtures.json("scheduler/scheduler_config.json"), steps_offset=0)
    for name, expected in fixtures.tensors("scheduler_tables.safetensors").items():
        report.difference(f"scheduler_tables {name}", getattr(scheduler, name), expected, TABLE_LIMIT)


def check_samplings(fixtures: Fixtures, report: Report, steps_offset: int) -> None:
    """Every case: timesteps, noise, guided predictions, latents, and the picture where one is stored."""
    name = f"paint_timesteps_leading_offset{steps_offset}"
    loaded = load(fixtures)
    tensors = fixtures.tensors(f"{name}.safetensors")
    texts = fixtures.tensors("paint_text.safetensors") if fixtures.has("paint_text.safetensors") else {}
    for case in fixtures.json(f"{name}.json")["cases"]:
        prefix = f"c{case['case']}."
        expected = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        index = case["prompt_index"]
        stored_text = [texts[key] for key in (f"p{index}.uncond_trans", f"p{index}.cond_trans") if key in texts]
        conditioning = torch.stack(stored_text) if stored_text else encode(fixtures, loaded, case)
        denoiser = start(fixtures, loaded, case, conditioning, steps_offset)
        check_sampling(fixtures, report, f"{name} {prefix}", denoiser, case, expected)
        check_statistics(fixtures, report, f"{name} {prefix}", loaded, denoiser, case)
        if "image" in expected:
            denoiser = start(fixtures, loaded, case, encode(fixtures, loaded, case), steps_offset)
            check_picture(fixtures, report, f"{name} {prefix}", loaded, denoiser, case, expected["image"])


def check_sampling(
    fixtures: Fixtures,
    report: Report,
    name: str,
    denoiser: Denoiser,
    case: dict[str, Any],
    expected: dict[str, Tensor],
) -> None:
    """One case, with one generator for all that is drawn."""
    report.exact(f"{name}timesteps", denoiser.timesteps, case["timesteps"])
    report.difference(f"{name}init_latents", denoiser.latents, expected["init_latents"], DRAWN_LIMIT)
    guided, latents = [], []
    while not denoiser.is_done:
        denoiser.step()
        guided.append(denoiser.noise_prediction)
        latents.append(denoiser.latents)
    check_noise(report, name, denoiser, case, expected)
    compare = partial(judge, fixtures, report, limit=LATENT_LIMIT, relative=True)
    if "guided_noise_pred" in expected:
        compare(f"{name}guided_noise_pred", torch.stack(guided), expected["guided_noise_pred"])
    stored_steps = torch.stack([latents[index] for index in case["stored_step_indices"]])
    compare(f"{name}latents", stored_steps, expected["latents"])


def check_statistics(
    fixtures: Fixtures, report: Report, name: str, loaded: LoadedPaint, denoiser: Denoiser, case: dict[str, Any]
) -> None:
    """What is told of every picture, stored or not."""
    if fixtures.is_full_precision:
        pictures = decode_latents(loaded.vae, denoiser.latents)
        largest = denoiser.latents.abs().max().item()
        report.number(f"{name}image_mean", pictures.mean().item(), case["image_mean"], IMAGE_LIMIT)
        report.number(f"{name}image_std", pictures.std().item(), case["image_std"], IMAGE_LIMIT)
        report.number(f"{name}final_latent_abs_max", largest, case["final_latent_abs_max"], LATENT_LIMIT)


def check_picture(
    fixtures: Fixtures,
    report: Report,
    name: str,
    loaded: LoadedPaint,
    denoiser: Denoiser,
    case: dict[str, Any],
    expected: Tensor,
) -> None:
    """From the prompt to the pictures, and the first of them in 8 bits."""
    while not denoiser.is_done:
        denoiser.step()
    pictures = decode_latents(loaded.vae, denoiser.latents)  # (n, H, W, 3)
    judge(fixtures, report, f"{name}image from the prompt", pictures, expected, IMAGE_LIMIT)
    png = f"paint_case{case['case']}_image0.png"
    if fixtures.has(png):
        with Image.open(fixtures.path(png)) as opened:
            stored = torch.from_numpy(np.array(opened.convert("RGB"))).int()
        judge(fixtures, report, png, to_bytes(pictures[0]).int(), stored, PIXEL_LIMIT)


def encode(fixtures: Fixtures, loaded: LoadedPaint, case: dict[str, Any]) -> Tensor:
    """The case's conditioning from its prompts (2, L, cross attention width)."""
    texts = pack_job(text_job(case), loaded.tokenizer)
    with torch.inference_mode():
        return loaded.model.encode_prompts(texts.to(fixtures.device))


def start(
    fixtures: Fixtures, loaded: LoadedPaint, case: dict[str, Any], conditioning: Tensor, steps_offset: int
) -> Denoiser:
    latent_px = 1 << (len(loaded.vae.config.block_out_channels) - 1)
    return Denoiser(
        loaded.model.unet,
        make_scheduler(loaded.scheduler_config, steps_offset),
        conditioning.to(fixtures.device),
        num_candidates=case["num_images_per_prompt"],
        latent_size=(case["height"] // latent_px, case["width"] // latent_px),
        num_inference_steps=case["steps"],
        guidance_scale=case["guidance_scale"],
        generators=torch.Generator().manual_seed(case["generator_seed"]),
    )


def check_noise(
    report: Report, name: str, denoiser: Denoiser, case: dict[str, Any], expected: dict[str, Tensor]
) -> None:
    """As many tensors were drawn as the reference drew, the first ones being those that are stored."""
    again = torch.Generator().manual_seed(case["generator_seed"])
    drawn = [torch.randn(denoiser.latents.shape, generator=again) for _ in range(case["noise_draws"])]
    assert isinstance(denoiser.generators, torch.Generator)
    report.exact(f"{name}noise_draws", torch.equal(again.get_state(), denoiser.generators.get_state()), True)
    if "step_noise" in expected:
        stored = expected["step_noise"]
        report.difference(f"{name}step_noise", torch.stack(drawn[1 : 1 + len(stored)]), stored, DRAWN_LIMIT)


def judge(
    fixtures: Fixtures, report: Report, name: str, got: Tensor, expected: Tensor, limit: float, relative: bool = False
) -> None:
    """A verdict in full precision; in half precision the difference alone."""
    if fixtures.is_full_precision:
        report.difference(name, got, expected, limit, relative)
        return
    value = (got.detach().float().cpu() - expected.float()).abs().max()
    report.note(name, f"{value / expected.abs().max() if relative else value:.3g}")


def load(fixtures: Fixtures) -> LoadedPaint:
    file = next((name for name in CHECKPOINTS if fixtures.has(name)), CHECKPOINTS[0])
    return load_paint(fixtures.path(file), device=fixtures.device, dtype=fixtures.dtype)


def text_job(fields: dict[str, Any]) -> PaintJob:
    """The texts as the reference reads them: not escaped."""
    negative = fields["negative_prompt"] or ""
    return PaintJob(job_id="parity", prompt=fields["prompt"], negative_prompt=negative, raw_text=True)


CHECKS: dict[str, Callable[[Fixtures, Report], None]] = {
    "paint_text.safetensors": check_texts,
    "paint_unet.safetensors": check_networks,
    "scheduler_tables.safetensors": check_schedule,
    "paint_timesteps_leading_offset0.json": partial(check_samplings, steps_offset=0),
    "paint_timesteps_leading_offset1.json": partial(check_samplings, steps_offset=1),
}
_MODEL_FILES = (
    "unet/config.json",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
    "scheduler/scheduler_config.json",
    "paint_config.json",
    "vocab.txt",
)
COVERS: dict[str, tuple[str, ...]] = {
    "paint_text.safetensors": ("paint_text.json", "paint_text.safetensors", *_MODEL_FILES),
    "paint_unet.safetensors": ("paint_unet.safetensors", *_MODEL_FILES),
    "scheduler_tables.safetensors": ("scheduler_tables.safetensors", "scheduler/scheduler_config.json"),
    "paint_timesteps_leading_offset0.json": (
        "paint_timesteps_leading_offset0.json",
        "paint_timesteps_leading_offset0.safetensors",
        "paint_case*_image0.png",
        *_MODEL_FILES,
    ),
    "paint_timesteps_leading_offset1.json": (
        "paint_timesteps_leading_offset1.json",
        "paint_timesteps_leading_offset1.safetensors",
        *_MODEL_FILES,
    ),
}
