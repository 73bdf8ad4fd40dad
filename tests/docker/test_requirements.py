"""The packages of each image, as the Dockerfile asks for them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def asked_for(*extras: str) -> set[str]:
    """Names of the packages that an image gets with these extras."""
    with (ROOT / "pyproject.toml").open() as project:
        command = [sys.executable, str(ROOT / "docker/requirements.py"), *extras]
        told = subprocess.run(command, stdin=project, capture_output=True, text=True, check=True).stdout
    return {re.split(r"[^\w-]", line)[0] for line in told.splitlines()}


@pytest.mark.slow
def test_the_apis_image_reads_heic_and_holds_nothing_under_the_gpl() -> None:
    """The wheels of pillow-heif hold x265."""
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert re.search(r"^ARG API_EXTRAS=formats$", dockerfile, re.MULTILINE)
    assert "requirements.py ${API_EXTRAS:+" in dockerfile
    assert asked_for("formats") - asked_for() == {"pi-heif"}
    for extras in (("formats",), ("safety",), ("safety", "worker"), ("safety", "evaluate")):
        assert "pillow-heif" not in asked_for(*extras) and "fastapi" in asked_for(*extras)
