import pytest

from models.engines.paint.painter import preview_steps


@pytest.mark.parametrize(
    ("previews", "total", "steps"),
    [(0, 50, set()), (1, 4, {2}), (3, 8, {2, 4, 6}), (4, 50, {10, 20, 30, 40}), (9, 4, {1, 2, 3}), (5, 1, set())],
)
def test_previews_are_spread_evenly(previews: int, total: int, steps: set[int]) -> None:
    assert preview_steps(previews, total) == steps
