"""Old Pythons are told of by code that they can read."""

import ast
from pathlib import Path

import pytest

from service.doctor.python_version import LEAST, check_python

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("version", "level"),
    [((3, 8, 1, "final", 0), "problem"), ((3, 10, 9), "problem"), ((3, 11, 0), "ok"), ((3, 14, 1), "ok")],
)
def test_versions(version: tuple[object, ...], level: str) -> None:
    assert check_python(version).level == level


def test_the_least_one_is_the_packages() -> None:
    assert f'requires-python = ">={LEAST[0]}.{LEAST[1]}"' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize("name", ["__main__", "python_version", "findings", "report"])
def test_what_runs_before_it_is_told_is_readable_by_python_3_8(name: str) -> None:
    text = (ROOT / f"service/doctor/{name}.py").read_text()
    tree = ast.parse(text, feature_version=(3, 8))
    assert "from __future__ import annotations" in text, "its annotations would be evaluated"
    imported = {node.module for node in tree.body if isinstance(node, ast.ImportFrom)}
    assert imported <= {"__future__", "dataclasses", "typing"} | {
        f"service.doctor.{other}" for other in ("python_version", "findings", "report")
    }
