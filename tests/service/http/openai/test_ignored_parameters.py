"""What had no effect, in a header and a counter whose labels are bounded."""

from starlette.responses import Response

from service.core.metrics import Metrics
from service.http.openai.ignored_parameters import HEADER, tell_ignored


def test_names_are_told_once_and_strange_ones_are_counted_together() -> None:
    metrics = Metrics("api")
    response = tell_ignored(Response(), ["user", "tools", "user", "my_own", "a\nb", "x" * 65], metrics)
    assert response.headers[HEADER] == "user, tools, my_own, other"
    page = metrics.render().decode()
    assert 'viscpm_ignored_parameters_total{parameter="user"} 1.0' in page
    assert 'viscpm_ignored_parameters_total{parameter="other"} 2.0' in page and "my_own" not in page


def test_nothing_is_told_where_there_is_nothing() -> None:
    assert HEADER not in tell_ignored(Response(), [], Metrics("api")).headers


def test_the_header_is_bounded() -> None:
    response = tell_ignored(Response(), [f"field{i}" for i in range(40)], Metrics("api"))
    assert response.headers[HEADER].endswith("field31, and 8 more")
