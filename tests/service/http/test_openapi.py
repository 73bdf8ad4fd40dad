"""What the description says of bodies, answers and errors."""

import json
from collections.abc import Iterator

import yaml

from service.core.settings import Settings
from service.http.app import create_app
from service.http.openapi_yaml import render


def test_the_description_names_every_routes_errors() -> None:
    document = yaml.safe_load(render())
    assert document == json.loads(json.dumps(create_app(Settings()).openapi()))
    for path in ("/chat", "/paint"):
        responses = document["paths"][path]["post"]["responses"]
        assert {"200", "202", "400", "408", "413", "415", "429", "500", "503", "504"} <= set(responses)
    for operations in document["paths"].values():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                if int(status) >= 400:
                    schema = response["content"]["application/json"]["schema"]
                    assert schema == {"$ref": "#/components/schemas/ErrorResponse"}
    references = set(_references(document))
    assert references <= {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}


def _references(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value
            yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)
