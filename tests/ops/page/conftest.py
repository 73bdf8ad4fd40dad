"""A browser, the service in the box with its screens, and slow scripted ones: one asks for keys below a prefix, one has
screens that block by what they are shown and does one job at a time.
"""

import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e.tree import Tree
from tests.ops.page.severable_proxy import SeverableProxy
from tests.service.api_process import ApiProcess, api_process

if TYPE_CHECKING:
    from playwright.sync_api import Browser

PREFIX = "/viscpm"
# Of the extra `ops`: where it is not installed, as for `make test`, these files are not even read
collect_ignore_glob = [] if find_spec("playwright") else ["test_*.py"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.nodeid.startswith("tests/ops/page/"):
            item.add_marker(pytest.mark.timeout(600))  # on a busy machine a service and a browser start slowly


# One for each file: while it stands, its event loop runs in this thread, where others need theirs
@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    from tests.ops.page.browser import chromium

    with chromium() as launched:
        yield launched


@pytest.fixture(scope="session")
def service_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`viscpm serve` with the checkpoint in the box."""
    tree = Tree(tmp_path_factory.mktemp("page") / "data", VISCPM_SAFETY="on")
    try:
        yield tree.wait_ready(limit_s=300).url  # seconds, where nothing else runs
    finally:
        tree.stop()


@pytest.fixture(scope="session")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    """A word each tenth of a second."""
    variables = {"VISCPM_AUTH": "on", "VISCPM_ROOT_PATH": PREFIX, "VISCPM_TEST_STEP_S": "0.1"}
    with api_process(tmp_path_factory.mktemp("scripted"), **variables) as running:
        yield running


@pytest.fixture(scope="session")
def screened_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    variables = {"VISCPM_CHAT_MAX_JOBS": "1", "VISCPM_PAINT_MAX_JOBS": "1", "VISCPM_TEST_STEP_S": "0.05"}
    with api_process(tmp_path_factory.mktemp("screened"), VISCPM_SAFETY="on", **variables) as running:
        yield running.url


@pytest.fixture(scope="session")
def api_key(scripted: ApiProcess) -> str:
    command = [sys.executable, "-m", "service.process.cli", "keys", "create", "page"]
    environment = {"VISCPM_REDIS_URL": scripted.redis_url, "PYTHONPATH": str(Path(__file__).parents[3])}
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    return next(word for word in told.split() if word.startswith("vk-"))


@pytest.fixture
def proxy(scripted: ApiProcess) -> Iterator[SeverableProxy]:
    with SeverableProxy(scripted.url) as standing:
        yield standing
