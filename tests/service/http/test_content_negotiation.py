"""Content negotiation."""

import pytest

from service.core.errors import NotAcceptable
from service.http.content_negotiation import negotiate


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        ("", "application/json"),
        ("*/*", "application/json"),
        ("application/json", "application/json"),
        ("text/event-stream", "application/json"),
        ("image/*", "image/*"),
        ("IMAGE/PNG", "image/png"),
        ("image/avif, image/webp, */*;q=0.8", "image/webp"),
        ("application/json;q=0.1, image/jpeg;q=0.5", "image/jpeg"),
        ("image/png;q=0, application/json", "application/json"),
        ("image/png;q=high, */*;q=0.1", "application/json"),
    ],
)
def test_the_best_offer_wins(accept: str, media: str) -> None:
    assert negotiate(accept) == media


@pytest.mark.parametrize("accept", ["text/html", "image/gif", "image/png;q=0", ",", ";;;"])
def test_nothing_that_is_offered(accept: str) -> None:
    with pytest.raises(NotAcceptable):
        negotiate(accept)
