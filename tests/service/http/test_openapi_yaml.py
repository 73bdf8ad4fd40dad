"""The description as openapi.yaml keeps it."""

from pathlib import Path

import pytest

from service.http.openapi_yaml import render

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
def test_openapi_yaml_is_the_apps() -> None:
    assert (ROOT / "openapi.yaml").read_text() == render(), "openapi.yaml is old: make openapi"
