"""The headers that answers have, as openapi.yaml tells of them."""

from collections.abc import Iterable
from typing import Any

_COUNT = {"type": "integer", "minimum": 0}
_OF_A_LIMIT = "Of a key with such a limit."

HEADERS: dict[str, dict[str, Any]] = {
    "x-request-id": {"schema": {"type": "string"}, "description": "The request's own, or one made up."},
    "openai-processing-ms": {"schema": _COUNT, "description": "Until the answer began."},
    "cache-control": {"schema": {"type": "string"}, "description": "Whether, and how long, the answer may be kept."},
    "x-accel-buffering": {
        "schema": {"type": "string"},
        "description": "`no`, of a stream: proxies pass it on at once.",
    },
    "x-content-type-options": {"schema": {"type": "string"}, "description": "`nosniff`"},
    "location": {"schema": {"type": "string"}, "description": "Of the job."},
    "preference-applied": {"schema": {"type": "string"}, "description": "`respond-async`"},
    "idempotent-replayed": {
        "schema": {"type": "string"},
        "description": "`true` where an earlier request with the same `Idempotency-Key` is what is answered.",
    },
    "x-job-id": {"schema": {"type": "string"}, "description": "Of an answer that is the picture itself, or a stream."},
    "x-seed": {"schema": _COUNT, "description": "Of an answer that is the picture itself."},
    "x-score": {"schema": {"type": "number"}, "description": "The same, where it was scored."},
    "x-ignored-parameters": {
        "schema": {"type": "string"},
        "description": "Names of fields that were sent and have no effect.",
    },
    **{
        f"x-ratelimit-{what}-{unit}": {"schema": schema, "description": _OF_A_LIMIT}
        for unit in ("requests", "tokens")
        for what, schema in (
            ("limit", _COUNT),
            ("remaining", _COUNT),
            ("reset", {"type": "string", "examples": ["12.346s"]}),
        )
    },
}
OF_ALL = ("x-request-id", "openai-processing-ms")
OF_STREAMS = ("cache-control", "x-accel-buffering")
OF_PICTURES = ("x-job-id", "x-seed", "x-score")
OF_ACCEPTED = ("location", "preference-applied")
OF_LIMITS = tuple(name for name in HEADERS if name.startswith("x-ratelimit-"))


def told(names: Iterable[str]) -> dict[str, dict[str, str]]:
    """References to them, for one answer."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}
