"""A model as clients list it."""

import msgspec

from service.http.schemas.openai.models import ModelCard, ModelList


def test_a_list_has_what_clients_read() -> None:
    card = ModelCard(id="m", created=1, root="own")
    told = {"id": "m", "created": 1, "root": "own", "object": "model", "owned_by": "viscpm", "parent": None}
    assert msgspec.to_builtins(ModelList(data=[card])) == {"data": [told], "object": "list"}
