"""AUTOMATIC1111's shapes of a painting, as far as its clients send and read them."""

import re
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from pydantic import Field, ValidationInfo, field_validator

from models.jobs import PaintJob, SamplerName
from service.core.settings import Settings
from service.http.schemas.paint import PaintingRequest
from service.http.schemas.requests import MAX_SEED, OpenRequest, limits_of, plain_text, shown
from service.jobs.answers import PaintResponse

MAX_PICTURES = 4
MAX_SIDE_PX = 8192
MAX_NAME_CHARS = 128

# As their lists show them; what a client may call each begins so
SAMPLERS: dict[SamplerName, str] = {"ddpm": "DDPM", "dpm++": "DPM++ 2M", "ddim": "DDIM", "euler": "Euler"}
_FAMILIES: dict[SamplerName, re.Pattern[str]] = {
    "ddpm": re.compile(r"ddpm|automatic|$"),
    "dpm++": re.compile(r"(k_)?dpm"),
    "ddim": re.compile(r"ddim"),
    "euler": re.compile(r"(k_)?euler"),
}


class Txt2ImgRequest(OpenRequest):
    """One prompt, `batch_size` × `n_iter` pictures."""

    prompt: str = Field(min_length=1)
    negative_prompt: str = ""
    width: int = Field(512, ge=16, le=MAX_SIDE_PX, description="In pixels; the nearest possible size is painted.")
    height: int = Field(512, ge=16, le=MAX_SIDE_PX)
    steps: int | None = Field(None, ge=1, le=1000, description="Absent: 50 for DDPM, 25 for the other samplers.")
    cfg_scale: float = Field(7.5, ge=0, le=50)
    seed: int = Field(-1, ge=-(2**63), le=MAX_SEED - MAX_PICTURES, description="Negative: drawn, told.")
    sampler_name: str = Field("", max_length=MAX_NAME_CHARS, description="Absent: DDPM, the model's own.")
    sampler_index: str = Field("", max_length=MAX_NAME_CHARS, description="The older name of `sampler_name`.")
    batch_size: int = Field(1, ge=1, le=MAX_PICTURES, description=f"Times `n_iter` at most {MAX_PICTURES}.")
    n_iter: int = Field(1, ge=1, le=MAX_PICTURES)

    @field_validator("prompt", "negative_prompt")
    @classmethod
    def _check_prompt(cls, value: str, info: ValidationInfo) -> str:
        return plain_text(value, limits_of(info).max_prompt_chars)

    @field_validator("n_iter")
    @classmethod
    def _check_pictures(cls, value: int, info: ValidationInfo) -> int:
        batch_size = info.data.get("batch_size", 1)
        if batch_size * value > MAX_PICTURES:
            raise ValueError(f"batch_size {batch_size} x n_iter {value} is more than {MAX_PICTURES} pictures")
        return value

    @field_validator("sampler_name", "sampler_index")
    @classmethod
    def _check_sampler(cls, value: str) -> str:
        if not any(family.match(value.lower()) for family in _FAMILIES.values()):
            raise ValueError(f"must begin as one of {', '.join(SAMPLERS.values())}{shown(value)}")
        return value

    @property
    def sampler(self) -> SamplerName:
        name = (self.sampler_name or self.sampler_index).lower()
        return next(sampler for sampler, family in _FAMILIES.items() if family.match(name))

    def painting(self, settings: Settings) -> PaintingRequest:
        """The same as a request of ours."""
        n = self.batch_size * self.n_iter
        fields: dict[str, Any] = {
            "prompt": self.prompt,
            "negative_prompt": self.negative_prompt,
            "n": n,
            "sampler": self.sampler,
            "num_inference_steps": self.steps,
            "guidance_scale": self.cfg_scale,
            "size": f"{self.width}x{self.height}",
            "seed": self.seed if self.seed >= 0 else None,
        }
        return PaintingRequest.model_validate(fields, context=settings)


class OptionsRequest(OpenRequest):
    """What clients set; only that the model is one of this service is looked at."""

    sd_model_checkpoint: str | None = Field(None, max_length=MAX_NAME_CHARS)


class Txt2ImgResponse(msgspec.Struct, kw_only=True):
    """The pictures, and what is said of them."""

    images: Annotated[list[bytes], Meta(description="Each picture as PNG, base64.")]
    parameters: Annotated[dict[str, Any], Meta(description="What had an effect.")]
    info: Annotated[str, Meta(description="JSON: `seed`, `all_seeds`, `infotexts` and more.")]


def txt2img_response(asked: Txt2ImgRequest, job: PaintJob, answer: PaintResponse) -> Txt2ImgResponse:
    """The answer of `/paint` in their shape."""
    seeds, num_pictures = [one.seed for one in answer.data], len(answer.data)
    info = {
        "prompt": job.prompt,
        "all_prompts": [job.prompt] * num_pictures,
        "negative_prompt": job.negative_prompt,
        "all_negative_prompts": [job.negative_prompt] * num_pictures,
        "seed": seeds[0],
        "all_seeds": seeds,
        "width": job.width_px,
        "height": job.height_px,
        "sampler_name": SAMPLERS[job.sampler],
        "cfg_scale": job.guidance_scale,
        "steps": job.num_inference_steps,
        "batch_size": num_pictures,
        "sd_model_name": answer.model,
        "job_timestamp": str(answer.created),
        "index_of_first_image": 0,
        "infotexts": [_infotext(job, answer.model, seed) for seed in seeds],
    }
    return Txt2ImgResponse(
        images=[one.b64_json for one in answer.data],
        parameters=asked.model_dump(include=set(Txt2ImgRequest.model_fields)),
        info=msgspec.json.encode(info).decode(),
    )


def _infotext(job: PaintJob, model: str, seed: int) -> str:
    negative = f"\nNegative prompt: {job.negative_prompt}" if job.negative_prompt else ""
    return (
        f"{job.prompt}{negative}\nSteps: {job.num_inference_steps}, Sampler: {SAMPLERS[job.sampler]}, "
        f"CFG scale: {job.guidance_scale:g}, Seed: {seed}, Size: {job.width_px}x{job.height_px}, Model: {model}"
    )
