"""The documented error is the one that is sent."""

import msgspec

from service.core.errors import ContentRefused, InvalidRequest, JobFailed, error_body
from service.http.schemas.errors import ErrorDetail, ErrorResponse


def test_what_is_sent_is_what_is_documented() -> None:
    bare = msgspec.convert(error_body(InvalidRequest("n: no", param="n")), ErrorResponse)
    assert bare.error == ErrorDetail(message="n: no", type="invalid_request_error", param="n", code="invalid_request")
    refused = msgspec.convert(error_body(ContentRefused("no", extra={"moderation": {"input": {}}})), ErrorResponse)
    assert refused.error.moderation == {"input": {}} and refused.error.job_id is msgspec.UNSET
    failed = msgspec.convert(error_body(JobFailed("no", extra={"job_id": "j"})), ErrorResponse)
    assert failed.error.job_id == "j"
    for error in (bare, refused, failed):
        assert msgspec.json.decode(msgspec.json.encode(error), type=ErrorResponse) == error
