"""Names of the models, in front of real workers whose own names the registry tells."""

import pytest

from service.core.errors import ModelNotFound
from service.http.model_aliases import ModelAliases
from tests.service.web import Service

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAIRS = ("gpt-4o=chat", "dall-e-3=paint", "scripted=chat")


@pytest.fixture
async def aliases(module_service: Service) -> ModelAliases:
    return ModelAliases(PAIRS, ("chat", "paint"), module_service.state.registry)


async def test_a_models_own_name_stands_before_its_aliases_and_once(aliases: ModelAliases) -> None:
    assert aliases.names("chat") == ["scripted", "gpt-4o"]
    assert aliases.names("paint")[1:] == ["dall-e-3"]


async def test_a_name_leads_to_its_model(aliases: ModelAliases) -> None:
    assert [aliases.resolve(name) for name in ("gpt-4o", "scripted", "dall-e-3")] == ["chat", "chat", "paint"]
    own = aliases.names("paint")[0]
    assert aliases.resolve(own) == "paint"
    aliases.require(own, "paint")


async def test_an_unknown_name_is_told_the_known_ones(aliases: ModelAliases) -> None:
    with pytest.raises(ModelNotFound, match="there is no 'gpt-5' here; there are scripted, gpt-4o, .*dall-e-3") as told:
        aliases.resolve("gpt-5")
    assert told.value.param == "model"
    with pytest.raises(ModelNotFound, match="there is no 'gpt-5'"):
        aliases.require("gpt-5", "chat")


async def test_the_other_models_name_is_told_which_to_use(aliases: ModelAliases) -> None:
    aliases.require("gpt-4o", "chat")
    with pytest.raises(ModelNotFound, match="'dall-e-3' paints and cannot be asked here; use one of scripted, gpt-4o"):
        aliases.require("dall-e-3", "chat")


async def test_what_is_not_served_has_no_names(module_service: Service) -> None:
    chat_only = ModelAliases(PAIRS, ("chat",), module_service.state.registry)
    assert chat_only.names("paint") == []
    with pytest.raises(ModelNotFound, match="there is no 'dall-e-3' here"):
        chat_only.resolve("dall-e-3")
