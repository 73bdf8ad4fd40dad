"""Requests as clients of the field send them, to the server that `viscpm api` runs: one for all files here."""

from collections.abc import Iterator

import httpx
import pytest

from tests.e2e.tree import FAST_LEASES, Tree
from tests.service.api_process import ApiProcess, api_process

SIDE_PX = 24  # of the square that the scripted model sees
MAX_TURNS = 3
ORIGIN = "https://chat.example.org"
PROXY = "127.0.0.9"  # of this machine, and trusted

SETTINGS = {
    "VISCPM_A1111": "on",
    "VISCPM_CHAT_CHECKPOINT": f"scripted:{SIDE_PX}",
    "VISCPM_CONVERSATION_MAX_TURNS": str(MAX_TURNS),
    "VISCPM_CORS_ORIGINS": ORIGIN,
    "VISCPM_ROOT_PATH": "/viscpm",
    "VISCPM_TRUSTED_PROXIES": f"{PROXY}/32",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.nodeid.startswith("tests/clients/"):
            item.add_marker(pytest.mark.process_tree)


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    with api_process(tmp_path_factory.mktemp("clients"), **SETTINGS) as running:
        yield running


@pytest.fixture(scope="session")
def client(api: ApiProcess) -> Iterator[httpx.Client]:
    with api.client() as connected:
        yield connected


@pytest.fixture(scope="session")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    """`viscpm serve` with the bundled checkpoints and screens, and two API processes: one for the group `serve`."""
    folder = tmp_path_factory.mktemp("clients-serve") / "data"
    running = Tree(folder, VISCPM_SAFETY="on", VISCPM_API_PROCESSES="2", **FAST_LEASES)
    try:
        yield running.wait_ready(150.0)  # another file's group may keep the machine busy
    finally:
        running.stop()
