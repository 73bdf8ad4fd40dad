"""What openapi.yaml tells of headers."""

import pytest
import yaml

from service.http.addresses import EXPOSED
from service.http.openapi_yaml import render
from service.http.schemas.headers import HEADERS, OF_LIMITS, told


def test_every_header_that_browsers_may_read_is_told_of() -> None:
    assert set(EXPOSED) - {"retry-after"} <= set(HEADERS)


@pytest.mark.slow
def test_every_answer_names_its_request_and_every_reference_has_its_header() -> None:
    document = yaml.load(render(), Loader=yaml.CSafeLoader)
    for operations in document["paths"].values():
        for operation in operations.values():
            for response in operation["responses"].values():
                assert "x-request-id" in response["headers"]
                for name, header in response["headers"].items():
                    assert "$ref" not in header or header == told([name])[name]
    assert set(document["components"]["headers"]) == set(HEADERS)
    limited = document["paths"]["/chat"]["post"]["responses"]["429"]["headers"]
    assert {"retry-after", "idempotent-replayed", *OF_LIMITS} <= set(limited)
