"""A prompt (its answer: service/jobs/answers.py)."""

import re
from typing import Literal, Self

from pydantic import Field, JsonValue, ValidationInfo, field_validator, model_validator

from models.jobs import SamplerName
from service.http.schemas.requests import (
    CallbackUrl,
    Included,
    JobPriority,
    Request,
    Seed,
    limits_of,
    plain_text,
    shown,
)
from service.jobs.answers import PictureFormat

_SIZE = re.compile(r"auto|[1-9][0-9]{1,3}x[1-9][0-9]{1,3}")
SIZE_SCHEMA: dict[str, JsonValue] = {"pattern": f"^({_SIZE.pattern})$"}


class PaintingRequest(Request):
    """What is asked of the paint model: one prompt, `n` pictures. Routes add how they are answered."""

    prompt: str = Field(min_length=1, description="Plain text; its length limit is VISCPM_MAX_PROMPT_CHARS.")
    negative_prompt: str = Field("", description="What the picture should not show.")
    n: int = Field(1, ge=1, le=4, description="Pictures wanted.")
    candidates: int | None = Field(
        None, ge=1, le=4, description="Pictures painted, at least `n`; absent: 4 when reranking, else `n`."
    )
    rerank: bool | Literal["auto"] = Field(
        "auto", description="`auto`: where the worker has a reranker for the prompt's language."
    )
    sampler: SamplerName = Field(
        "ddpm",
        description="`ddpm`: the model's own. `dpm++`, `ddim` and `euler` need about half as many steps.",
    )
    num_inference_steps: int | None = Field(
        None, ge=1, le=1000, description="Absent: 50 for `ddpm`, 25 for the other samplers."
    )
    guidance_scale: float = Field(7.5, ge=0, le=50)
    size: str = Field("auto", description="`512x512`, or the default.", json_schema_extra=SIZE_SCHEMA)
    seed: Seed | None = Field(
        None, description="Candidate i starts from seed + i, of the same limit. Absent: drawn, told."
    )
    output_format: PictureFormat = "png"
    output_compression: int = Field(100, ge=0, le=100, description="Quality of jpeg and webp; png is lossless.")
    stream: bool = Field(False, description="Server-sent events: progress, previews and the finished pictures.")
    partial_images: int = Field(0, ge=0, le=3, description="Previews while painting; needs `stream`.")
    include: Included = []
    priority: JobPriority = "interactive"
    raw: bool = Field(False, description="Honour the model's special tokens in the prompt, as the reference does.")

    @field_validator("rerank", mode="before")
    @classmethod
    def _check_rerank(cls, value: object) -> object:
        if not isinstance(value, bool) and value != "auto":
            raise ValueError(f"must be true, false or 'auto'{shown(value)}")
        return value

    @field_validator("size")
    @classmethod
    def _check_size(cls, value: str) -> str:
        if not _SIZE.fullmatch(value):
            raise ValueError(f"must be auto, or width x height in pixels such as 512x512{shown(value)}")
        return value

    @field_validator("prompt", "negative_prompt")
    @classmethod
    def _check_prompt(cls, value: str, info: ValidationInfo) -> str:
        return plain_text(value, limits_of(info).max_prompt_chars)

    @model_validator(mode="after")
    def _check_counts(self) -> Self:
        if self.candidates is not None and self.candidates < self.n:
            raise ValueError(f"candidates must be at least n, got candidates {self.candidates} for n {self.n}")
        if self.partial_images and not self.stream:
            raise ValueError(f"partial_images needs stream, got partial_images {self.partial_images} without it")
        return self

    def side_px(self) -> tuple[int, int] | None:
        """(width, height), or None for the default size."""
        if self.size == "auto":
            return None
        width, height = self.size.split("x")
        return int(width), int(height)


class PaintRequest(PaintingRequest):
    """One prompt, `n` pictures."""

    response_format: Literal["b64_json"] = "b64_json"
    callback_url: CallbackUrl | None = None
