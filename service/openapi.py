"""`python -m service.openapi`: the API's description, as openapi.yaml keeps it."""

import json
import sys

from service.app import create_app
from service.settings import Settings


def render() -> str:
    """OpenAPI 3.1 as YAML, in the order of the routes."""
    return _yaml(create_app(Settings()).openapi(), 0)


def _yaml(value: object, indent: int) -> str:
    """Block style; scalars as JSON, which YAML includes."""
    pad = "  " * indent
    if isinstance(value, dict) and value:
        return "".join(f"{pad}{_key(key)}:{_nested(item, indent)}" for key, item in value.items())
    if isinstance(value, list) and value:
        return "".join(f"{pad}-{_nested(item, indent)}" for item in value)
    raise AssertionError(f"a document is a mapping, got {type(value).__name__}")


def _nested(value: object, indent: int) -> str:
    if isinstance(value, dict | list) and value:
        return "\n" + _yaml(value, indent + 1)
    return f" {json.dumps(value, ensure_ascii=False)}\n"


def _key(key: str) -> str:
    return key if key.replace("_", "a").replace("-", "a").isalnum() and not key.isdigit() else json.dumps(key)


if __name__ == "__main__":
    sys.stdout.write(render())
