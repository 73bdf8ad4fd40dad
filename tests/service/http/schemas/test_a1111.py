"""Samplers by the names of A1111, and its request as one of ours."""

from typing import Any

import pytest
from pydantic import ValidationError

from models.jobs import SamplerName
from service.core.settings import Settings
from service.http.schemas.a1111 import Txt2ImgRequest


def asked(**fields: Any) -> Txt2ImgRequest:
    return Txt2ImgRequest.model_validate({"prompt": "x", **fields}, context=Settings())


@pytest.mark.parametrize(
    ("name", "sampler"),
    [
        ("", "ddpm"),
        ("Automatic", "ddpm"),
        ("DDPM", "ddpm"),
        ("Euler", "euler"),
        ("Euler a", "euler"),
        ("k_euler", "euler"),
        ("DPM++ 2M", "dpm++"),
        ("DPM++ 2M SDE Karras", "dpm++"),
        ("k_dpmpp_2m", "dpm++"),
        ("DDIM", "ddim"),
    ],
)
def test_a_sampler_is_known_by_its_family(name: str, sampler: SamplerName) -> None:
    assert asked(sampler_name=name).sampler == asked(sampler_index=name).sampler == sampler


@pytest.mark.parametrize("name", ["UniPC", "LMS", "Restart", "x Euler"])
def test_others_are_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="must begin as one of DDPM, DPM\\+\\+ 2M, DDIM, Euler"):
        asked(sampler_name=name)


def test_it_becomes_a_request_of_ours() -> None:
    ours = asked(width=640, height=384, seed=-1, n_iter=2, batch_size=2, steps=20, cfg_scale=7).painting(Settings())
    assert (ours.size, ours.seed, ours.n, ours.num_inference_steps) == ("640x384", None, 4, 20)
    assert (ours.guidance_scale, ours.sampler, ours.output_format) == (7.0, "ddpm", "png")
    assert asked(seed=0).painting(Settings()).seed == 0 and asked().painting(Settings()).guidance_scale == 7.5
