"""Two process trees for all tests that leave them as they found them: starting one takes seconds."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from models.checkpoints.tiny import write_tiny_checkpoints
from tests.e2e.tree import FAST_LEASES, Tree


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.nodeid.startswith("tests/e2e/"):
            item.add_marker(pytest.mark.process_tree)


@pytest.fixture(scope="session")
def random_weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The variables that serve tiny checkpoints of random weights: faster than bundled ones, and they talk on."""
    folder = tmp_path_factory.mktemp("tiny") / "checkpoints"
    write_tiny_checkpoints(folder, seed=0, eos_scale=0.0)
    return {f"VISCPM_{kind.upper()}_CHECKPOINT": str(folder / kind) for kind in ("chat", "paint")}


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory, random_weights: dict[str, str]) -> Iterator[Tree]:
    """Two chat workers and one for paint, random weights, an open gate, room for a paint of any length, and time for an
    answer of any length where it drains."""
    data_dir = tmp_path_factory.mktemp("e2e") / "data"
    variables = {"VISCPM_CHAT_WORKERS": "2", "VISCPM_MAX_PIXEL_STEPS": str(2**40), "VISCPM_DRAIN_S": "85"}
    running = Tree(data_dir, **variables, **random_weights, **FAST_LEASES)
    try:
        yield running.wait_ready()
    finally:
        running.stop()


@pytest.fixture(scope="session")
def boxed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    """What `viscpm serve` starts by itself: the bundled checkpoints behind real screens; audited."""
    folder: Path = tmp_path_factory.mktemp("boxed")
    audit = {"VISCPM_SAFETY": "on", "VISCPM_SAFETY_AUDIT_FILE": str(folder / "audit.jsonl")}
    running = Tree(folder / "data", **audit, **FAST_LEASES)
    try:
        yield running.wait_ready()
    finally:
        running.stop()
