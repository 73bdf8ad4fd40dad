"""What schemathesis, run by test_schema.py, does beside its own checks; a module of its process, not of the tests'."""

import itertools
from typing import Any

import schemathesis

# Of HTTP itself; vary: of CORS
_OF_HTTP = {"connection", "content-length", "content-type", "date", "server", "transfer-encoding", "allow", "vary"}
_addresses = itertools.count(1)


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """From an address of its own: who presents wrong keys again and again waits for seconds."""
    number = next(_addresses)
    case.headers["X-Forwarded-For"] = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


@schemathesis.check
def undocumented_header(context: Any, response: Any, case: Any) -> None:
    definition = case.operation.responses.find_by_status_code(response.status_code)
    if definition is None:  # another check's
        return
    told = {name.lower() for name in definition.definition.get("headers", {})}
    unknown = {name.lower() for name in response.headers} - told - _OF_HTTP
    assert not unknown, f"headers that openapi.yaml does not name for {response.status_code}: {sorted(unknown)}"
