"""From a request to its job: sizes, samplers, rerankers, and how much work one may ask for."""

import msgspec
import pytest

from models.jobs import ModelDescription, PaintJob
from safety.text.language import language_of
from service.core.errors import InvalidRequest, RerankerNotConfigured
from service.core.settings import Settings
from service.http.routes.painting import _check_pixel_steps, _job, nearest_size, planned
from service.http.schemas.paint import PaintingRequest, PaintRequest


@pytest.mark.parametrize(
    ("prompt", "language", "rerank"),
    [
        ("photo of 北京", "zh", "on"),
        ("a photo of 北京", "en", "on"),
        ("夕焼けの海", "ja", "off"),
        ("кошка", "other", "off"),
    ],
)
def test_the_reranker_is_that_of_the_language_that_the_screens_tell(prompt: str, language: str, rerank: str) -> None:
    model = ModelDescription(
        kind="paint", name="painter", fingerprint="f", picture_size_px=64, rerankers={"zh": "clip", "en": "clip"}
    )
    asked = PaintRequest.model_validate({"prompt": prompt}, context=Settings())
    job = _job(asked, model)
    assert (job.language, job.rerank) == (language, rerank) == (language_of(prompt), rerank)
    asked.rerank = True
    if rerank == "off":
        with pytest.raises(RerankerNotConfigured, match=f"no reranker for prompts in '{language}'"):
            _job(asked, model)


@pytest.mark.parametrize(
    ("fields", "sampler", "steps"),
    [
        ({}, "ddpm", 50),
        ({"sampler": "dpm++"}, "dpm++", 25),
        ({"sampler": "euler", "num_inference_steps": 40}, "euler", 40),
        ({"num_inference_steps": 7}, "ddpm", 7),
    ],
)
def test_a_sampler_brings_its_usual_number_of_steps(fields: dict[str, object], sampler: str, steps: int) -> None:
    model = ModelDescription(kind="paint", name="painter", fingerprint="f", picture_size_px=64)
    asked = PaintRequest.model_validate({"prompt": "a cat", **fields}, context=Settings())
    job = _job(asked, model)
    assert (job.sampler, job.num_inference_steps) == (sampler, steps)


@pytest.mark.parametrize(
    ("configured", "rerankers", "size_px", "limit"),
    [
        (0, {}, 512, 8 * 512 * 512 * 50),
        (0, {"zh": "clip"}, 512, 8 * 4 * 512 * 512 * 50),  # a default request has four candidates then
        (1000, {"zh": "clip"}, 512, 1000),
        (0, {}, 0, None),  # nobody knows a default
        (1000, {}, 0, 1000),
    ],
)
def test_the_limit_of_pixel_steps_follows_the_model_and_the_setting(
    configured: int, rerankers: dict[str, str], size_px: int, limit: int | None
) -> None:
    model = ModelDescription(
        kind="paint", name="painter", fingerprint="f", picture_size_px=size_px, rerankers=rerankers
    )
    at_limit = PaintJob(job_id="", prompt="x", height_px=1, width_px=1, num_inference_steps=limit or 10**12)
    _check_pixel_steps(at_limit, model, configured)
    if limit is not None:
        over = msgspec.structs.replace(at_limit, num_inference_steps=limit + 1)
        with pytest.raises(InvalidRequest, match=f"{limit + 1} pixel steps, at most {limit} are allowed"):
            _check_pixel_steps(over, model, configured)


@pytest.mark.parametrize(
    ("own_px", "multiple", "asked", "nearest"),
    [
        (512, 8, "auto", "auto"),
        (512, 8, "512x512", "512x512"),
        (512, 8, "256x256", "256x256"),
        (512, 8, "1024x1024", "512x512"),
        (512, 8, "1792x1024", "680x384"),
        (512, 8, "1024x1536", "416x624"),
        (512, 8, "500x333", "496x336"),
        (512, 64, "1792x1024", "704x384"),
        (512, 64, "1024x1536", "448x640"),
        (512, 64, "256x256", "256x256"),
        (512, 64, "16x9999", "64x1024"),
        (64, 16, "1792x1024", "80x48"),
        (64, 8, "1024x1024", "64x64"),
        (64, 8, "1024x1792", "48x88"),
        (64, 8, "9999x10", "256x16"),
        (64, 8, "10x10", "16x16"),
        (64, 0, "100x10", "100x16"),
        (0, 8, "1000x16", "1000x16"),  # nobody knows its own
    ],
)
def test_the_nearest_size_keeps_the_proportions_and_can_be_painted(
    own_px: int, multiple: int, asked: str, nearest: str
) -> None:
    model = ModelDescription(
        kind="paint", name="painter", fingerprint="f", picture_size_px=own_px, picture_multiple_px=multiple
    )
    request = PaintingRequest.model_validate({"prompt": "x", "n": 4, "size": asked}, context=Settings())
    assert nearest_size(request, model) == nearest
    request.size = nearest
    planned(request, model, 0)  # raises where it cannot
