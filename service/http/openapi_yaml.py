"""`python -m service.http.openapi_yaml`: the API's description, as openapi.yaml keeps it. Needs PyYAML."""

import sys

import yaml

from service.core.settings import Settings
from service.http.app import create_app


def render() -> str:
    """OpenAPI 3.1 as YAML, in the order of the routes."""
    text: str = yaml.dump(
        create_app(Settings()).openapi(), Dumper=_NoAliases, sort_keys=False, allow_unicode=True, width=120
    )
    return text


class _NoAliases(yaml.SafeDumper):
    """Writes what occurs twice twice: anchors are hard to read and some tools refuse them."""

    def ignore_aliases(self, data: object) -> bool:
        return True


if __name__ == "__main__":
    sys.stdout.write(render())
