"""A browser, the service in the box with its screens, and a slow scripted one that asks for keys below a prefix."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.debian import absent
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
    from playwright.sync_api import expect, sync_playwright

    from tests.ops.page.browser import LIMIT_MS

    program = shutil.which("chromium") or absent("chromium: apt-get install chromium fonts-noto-cjk")
    expect.set_options(timeout=LIMIT_MS)
    with sync_playwright() as playwright:
        # a container's root has no sandbox, and /dev/shm is small there
        arguments = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-background-networking"]
        launched = playwright.chromium.launch(executable_path=program, args=arguments)
        yield launched
        launched.close()


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
def api_key(scripted: ApiProcess) -> str:
    command = [sys.executable, "-m", "service.process.cli", "keys", "create", "page"]
    environment = {"VISCPM_REDIS_URL": scripted.redis_url, "PYTHONPATH": str(Path(__file__).parents[3])}
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    return next(word for word in told.split() if word.startswith("vk-"))


@pytest.fixture
def proxy(scripted: ApiProcess) -> Iterator[SeverableProxy]:
    with SeverableProxy(scripted.url) as standing:
        yield standing
