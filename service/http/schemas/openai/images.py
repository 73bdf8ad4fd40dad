"""Pictures in OpenAI's shape: what is asked, what is answered, and a stream's events."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from pydantic import ConfigDict, Field

from service.http.schemas.openai.requests import MAX_MODEL_CHARS
from service.http.schemas.paint import SIZE_SCHEMA, PaintingRequest
from service.http.schemas.requests import OpenRequest
from service.jobs.answers import Count, PictureFormat

PARTIAL_IMAGE: Literal["image_generation.partial_image"] = "image_generation.partial_image"
COMPLETED: Literal["image_generation.completed"] = "image_generation.completed"


class ImageGenerationRequest(OpenRequest, PaintingRequest):
    """One prompt, `n` pictures, as OpenAI's clients ask for them.

    What is no field here has no effect, and is named in the answer's header `x-ignored-parameters`.
    """

    model_config = ConfigDict(extra="allow")

    model: str | None = Field(
        None, max_length=MAX_MODEL_CHARS, description="The paint model or an alias of it; absent: the paint model."
    )
    size: str = Field(
        "auto",
        description="`1024x1024`: the nearest that the model was made for is painted, and told in the answer.",
        json_schema_extra=SIZE_SCHEMA,
    )
    response_format: Literal["b64_json", "url"] | None = Field(
        None,
        description="Absent: `url` for a model whose name has `dall-e` in it, where the service knows its own address "
        "and the answer is not a stream; else `b64_json`.",
    )

    @property
    def may_have_url(self) -> bool:
        """Nothing was said, and clients of this model read a `url`."""
        return self.response_format is None and "dall-e" in (self.model or "") and not self.stream


class GeneratedImage(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One picture, here or at an address."""

    b64_json: Annotated[bytes | None, Meta(description="The picture, base64.")] = None
    url: Annotated[str | None, Meta(description="Where it can be fetched, for VISCPM_IMAGE_URL_TTL_S.")] = None


class ImageTokens(msgspec.Struct, kw_only=True):
    text_tokens: Count
    image_tokens: Count = 0


class ImageUsage(msgspec.Struct, kw_only=True):
    input_tokens: Count
    output_tokens: Count
    total_tokens: Count
    input_tokens_details: ImageTokens


class ImageExtension(msgspec.Struct, kw_only=True):
    """What this service says beyond OpenAI's fields; as in the answer of `/paint`."""

    id: Annotated[str, Meta(description="Of the job: `GET /jobs/{id}`.")]
    model: Annotated[str, Meta(description="That painted.")]
    seeds: Annotated[list[int], Meta(description="Of each picture.")]
    scores: Annotated[list[float | None], Meta(description="The reranker's, of each picture; null without one.")]
    reranker: str = ""
    candidates: int = 1
    unknown_words: list[str] = []
    untrained: bool = False
    moderation: dict[str, Any] | None = None


class ImagesResponse(msgspec.Struct, kw_only=True):
    """The pictures, best first when reranked."""

    created: Annotated[int, Meta(description="Unix time in seconds.")]
    data: list[GeneratedImage]
    size: Annotated[str, Meta(description="That was painted: the nearest to what was asked for.")]
    output_format: PictureFormat
    usage: ImageUsage
    viscpm: ImageExtension
    background: Literal["opaque"] = "opaque"


class PartialImage(msgspec.Struct, kw_only=True):
    """A stream's event: a preview."""

    b64_json: bytes
    partial_image_index: int
    created_at: int
    size: str
    type: Literal["image_generation.partial_image"] = PARTIAL_IMAGE
    output_format: PictureFormat = "png"
    quality: Literal["auto"] = "auto"
    background: Literal["opaque"] = "opaque"


class CompletedImage(msgspec.Struct, kw_only=True):
    """A stream's event: a finished picture."""

    b64_json: bytes
    created_at: int
    size: str
    output_format: PictureFormat
    usage: ImageUsage
    viscpm: ImageExtension
    type: Literal["image_generation.completed"] = COMPLETED
    quality: Literal["auto"] = "auto"
    background: Literal["opaque"] = "opaque"
