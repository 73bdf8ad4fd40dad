"""GET /v1/models: the models by their own names and their aliases."""

from typing import Annotated

from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from models.jobs import Model
from service.http.dependencies import ApiState, state_of
from service.http.openapi import documented
from service.http.routes.responses import answered
from service.http.schemas.openai.models import ModelCard, ModelList
from service.http.schemas.openai.requests import MAX_MODEL_CHARS

router = APIRouter(tags=["openai"])

_PUBLISHED_S = 1_687_910_400  # 28 June 2023, the day of VisCPM's release


@router.get("/v1/models", summary="The models", **documented(ModelList, access="any"))
async def list_models(request: Request) -> Response:
    """Every name that `model` may have: the models' own, then the aliases of VISCPM_MODEL_ALIASES."""
    state = state_of(request)
    return answered(
        ModelList(
            data=[_card(state, kind, name) for kind in state.settings.models for name in state.aliases.names(kind)]
        )
    )


@router.get("/v1/models/{model}", summary="A model", **documented(ModelCard, statuses=(404,), access="any"))
async def get_model(request: Request, model: Annotated[str, Path(max_length=MAX_MODEL_CHARS)]) -> Response:
    """The one of this name."""
    state = state_of(request)
    return answered(_card(state, state.aliases.resolve(model), model))


def _card(state: ApiState, kind: Model, name: str) -> ModelCard:
    served = state.registry.last_model(kind)
    return ModelCard(id=name, created=_PUBLISHED_S, root="" if served is None else served.name)
