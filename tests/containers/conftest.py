"""One engine and one deployment for all checks, and a table of what was measured: `make check-containers`."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.containers.deployment import Deployment, deployment
from tests.containers.engine import NoEngine, engine
from tests.containers.stand_ins import provide

# An engine is started for nobody who did not ask for it, whatever marks a run of the tests selects
ASKED = os.environ.get("CHECK_CONTAINERS", "")  # run, or write: also the file of results
collect_ignore_glob = [] if ASKED else ["test_*.py"]

RESULTS = Path(__file__).parents[2] / "benchmarks/results/containers.txt"


class Table:
    """Figures in the order in which they came."""

    def __init__(self) -> None:
        self.rows: dict[str, tuple[float, str]] = {}

    def add(self, what: str, value: float, unit: str) -> None:
        self.rows[what] = value, unit

    def render(self) -> str:
        """For people, then one JSON line for scripts."""
        lines = [f"{what:<64} {value:>9.1f} {unit}" for what, (value, unit) in self.rows.items()]
        figures = {f"{what}, {unit}": round(value, 2) for what, (value, unit) in self.rows.items()}
        return "\n".join([*lines, json.dumps({"benchmark": "containers", "figures": figures})]) + "\n"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.nodeid.startswith("tests/containers/"):
            item.add_marker(pytest.mark.containers)
            item.add_marker(pytest.mark.timeout(1800))


@pytest.fixture(scope="session")
def table(request: pytest.FixtureRequest) -> Iterator[Table]:
    measured = Table()
    yield measured
    if measured.rows:
        print("\n" + measured.render())
    if ASKED == "write" and request.session.testsfailed == 0:
        RESULTS.write_text(measured.render())


@pytest.fixture(scope="session")
def box(tmp_path_factory: pytest.TempPathFactory, table: Table) -> Iterator[Deployment]:
    """Nothing is built and nothing runs yet."""
    try:
        with engine() as docker:
            provide(docker)
            with deployment(docker, tmp_path_factory.mktemp("tree")) as running:
                yield running
    except NoEngine as reason:
        pytest.exit(f"containers were not checked: {reason}", returncode=0)
