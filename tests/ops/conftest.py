"""What operators use. `make check-ops` runs these; a tool that is missing fails under CI and skips elsewhere."""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.environ.get("VISCPM_CHECK_OPS"):
        return
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.skip(reason="needs tools beyond pip's test extra: run make check-ops"))


@pytest.fixture
def tool() -> Callable[[str], str]:
    """Path of a program by name, from the environment's folder or from PATH."""

    def find(name: str) -> str:
        path = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        if path is None and os.environ.get("CI"):
            pytest.fail(f"{name} is not installed, and CI must check with it")
        if path is None:
            pytest.skip(f"{name} is not installed (Debian: apt-get install prometheus)")
        return path

    return find
