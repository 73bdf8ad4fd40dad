"""What operators use, run by `make check-ops`."""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.nodeid.startswith("tests/ops/"):
            item.add_marker(pytest.mark.ops)
