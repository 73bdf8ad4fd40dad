"""GET /v1/models over HTTP."""

import pytest

from tests.service.web import Service, assert_error

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_models_are_listed_by_their_own_names_and_aliases(module_service: Service) -> None:
    listed = (await module_service.client.get("/v1/models")).json()
    names = [model["id"] for model in listed["data"]]
    assert listed["object"] == "list" and names[0] == "scripted" and "painter" in names
    assert {"gpt-image-1", "dall-e-3", "dall-e-2"} <= set(names) and any("vision" in name for name in names)
    assert {type(model["created"]) for model in listed["data"]} == {int}


async def test_a_model_is_found_by_any_of_its_names(module_service: Service) -> None:
    found = (await module_service.client.get("/v1/models/dall-e-3")).json()
    told = {"id": "dall-e-3", "object": "model", "created": 1687910400, "owned_by": "viscpm"}
    assert found == told | {"root": "painter", "parent": None}
    unknown = await module_service.client.get("/v1/models/gpt-5")
    assert_error(unknown, 404, "model_not_found", "model")
