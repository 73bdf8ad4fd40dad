"""Which of our representations an Accept header wants (RFC 9110 §12.5.1)."""

from service.core.errors import NotAcceptable

JSON = "application/json"
OFFERED = (JSON, "image/*", "image/png", "image/jpeg", "image/webp")

_AS_JSON = ("*/*", "application/*", JSON, "text/event-stream")


def negotiate(accept: str) -> str:
    """One of OFFERED; JSON where anything goes. Raises NotAcceptable."""
    best, best_quality = "", 0.0
    for part in accept.split(",") if accept.strip() else ["*/*"]:
        media, *parameters = (piece.strip().lower() for piece in part.split(";"))
        quality = _quality(parameters)
        offered = JSON if media in _AS_JSON else media
        if offered in OFFERED and quality > best_quality:
            best, best_quality = offered, quality
    if not best:
        raise NotAcceptable(f"Accept allows none of {', '.join(OFFERED)}; got {accept[:100]}")
    return best


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return min(1.0, max(0.0, float(parameter[2:])))
            except ValueError:
                return 0.0
    return 1.0
