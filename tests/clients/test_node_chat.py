"""What Node's packages send: OpenAI's own, LangChain's and Vercel's AI SDK, in the versions of node/package.json.

They are installed into build/, by npm, the first time.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.clients.openai_bodies import DATA_URL
from tests.service.api_process import ApiProcess

pytestmark = [pytest.mark.clients, pytest.mark.xdist_group("api"), pytest.mark.timeout(300)]

SOURCE = Path(__file__).parent / "node"
INSTALLED = Path(__file__).parents[2] / "build" / "clients-node"


@pytest.fixture(scope="module")
def told(api: ApiProcess) -> dict[str, list[Any]]:
    """By package, what came back."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        pytest.skip("Node: node and npm are not installed")
    INSTALLED.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "talks.mjs"):
        shutil.copy(SOURCE / name, INSTALLED)
    subprocess.run([npm, "install", "--no-audit", "--no-fund", "--silent"], cwd=INSTALLED, check=True, timeout=240)
    environment = {**os.environ, "BASE_URL": f"{api.url}/v1", "PICTURE": DATA_URL}
    done = subprocess.run(
        [node, "talks.mjs"], cwd=INSTALLED, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {name: rest for name, *rest in lines}


def test_openais_package(told: dict[str, list[Any]]) -> None:
    assert told["openai"] == ["one", True] and told["openai stream"] == ["w0 w1 w2 ", 3]
    assert told["openai error"] == ["NotFoundError", "model_not_found"] and told["openai models"] == [True]
    assert told["openai responses"] == ["one", "response.completed", "w0 w1 "]


def test_langchain(told: dict[str, list[Any]]) -> None:
    assert told["langchain"] == ["one", True, "w0 w1 w2 "]


def test_vercels_ai_sdk(told: dict[str, list[Any]]) -> None:
    assert told["ai sdk"] == ["one", "w0 w1 w2 ", "stop"]
