"""One process tree for all tests that leave it as they found it: starting one takes seconds."""

from collections.abc import Iterator

import pytest

from tests.e2e.tree import FAST_LEASES, Tree


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    """Two chat workers and one for paint, with the checkpoints in the box."""
    running = Tree(tmp_path_factory.mktemp("e2e") / "data", VISCPM_CHAT_WORKERS="2", **FAST_LEASES)
    try:
        yield running.wait_ready()
    finally:
        running.stop()
