"""GET /v1/models: the names under which the models can be asked for."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta


class ModelCard(msgspec.Struct, kw_only=True):
    id: str
    created: Annotated[int, Meta(description="When VisCPM was published.")]
    root: Annotated[str, Meta(description="The model's own name; empty while none is known.")]
    object: Literal["model"] = "model"
    owned_by: str = "viscpm"
    parent: None = None


class ModelList(msgspec.Struct, kw_only=True):
    data: list[ModelCard]
    object: Literal["list"] = "list"
